#!/bin/sh
# Runs packetdrill scripts on the kernel and under libmptcp, each in a network namespace of its own, and prints both results.
#
#   tests/packetdrill.sh PACKETDRILL LIBRARY SCRIPT…        (as root)
#
# PACKETDRILL is a built packetdrill, LIBRARY a libmptcp.so; neither it nor any script is part of this project. Under the library the
# engine sends and hears on packetdrill's TUN device. A script is changed in two ways first: our window scale is 10, and what a program
# asks for "at once" after a segment it gets 30 ms later, because the engine is another process.
set -u
[ $# -ge 3 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
packetdrill=$(realpath "$1") library=$(realpath "$2")
shift 2

number=0
work=$(mktemp -d)
clean_namespace() {
	[ -e "/var/run/netns/$1" ] || return 0
	for pid in $(ip netns pids "$1"); do kill -9 "$pid"; done
	ip netns del "$1"
}
trap 'clean_namespace "pd-$$-$number"; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

addresses() {
	case $1 in
	*6_*.pkt | *v6.pkt | *-ipv6*.pkt)
		echo --ip_version=ipv6 --mtu=1520 --local_ip=fd3d:fa7b:d17d::0 --gateway_ip=fd3d:fa7b:d17d:8888::0 \
			--remote_ip=2001:DB8::1/32 -D CMSG_LEVEL_IP=SOL_IPV6 -D CMSG_TYPE_RECVERR=IPV6_RECVERR ;;
	*)
		echo --ip_version=ipv4 --local_ip=192.168.0.2 --gateway_ip=192.168.0.1 --netmask_ip=255.255.0.0 \
			--remote_ip=192.0.2.1/24 -D CMSG_LEVEL_IP=SOL_IP -D CMSG_TYPE_RECVERR=IP_RECVERR ;;
	esac
}

# run OUTPUT DIRECTORY SCRIPT COMMAND… : the script's exit status.
run() {
	output=$1 place=$2 file=$3
	shift 3
	number=$((number + 1))
	namespace=pd-$$-$number
	ip netns add "$namespace" && ip -n "$namespace" link set lo up || exit 1
	# Scripts call their helpers by relative names. The addresses are words of their own.
	# shellcheck disable=SC2046
	(cd "$place" && timeout 90 ip netns exec "$namespace" "$@" "$packetdrill" --send_omit_free \
		--tolerance_usecs=100000 $(addresses "$file") "$file") >"$output" 2>&1 </dev/null
	status=$?
	clean_namespace "$namespace"
	return $status
}

verdict() {
	if [ "$1" = 0 ]; then echo pass; else grep -v '^sysctl:\|^mptcp\[' "$2" | head -n 1 | cut -c 1-150; fi
}

kernel_passed=0 ours_passed=0 total=0
for script in "$@"; do
	directory=$(dirname "$script") name=$(basename "$script")
	run "$work/kernel" "$directory" "$name"
	kernel=$?
	adapted=$(mktemp "$directory/.adapted-XXXXXX-$name")
	sed -E -e '/^[ \t]*[+*0-9.~]*[ \t]*>/s/wscale [0-9]+/wscale 10/' \
		-e 's/^([ \t]*)\+0(\.0)?([ \t]+(accept|recv|read|poll|ioctl|epoll_wait)[ \t]*\()/\1+0.03\3/' "$script" >"$adapted"
	run "$work/ours" "$directory" "$(basename "$adapted")" env LD_PRELOAD="$library"
	ours=$?
	rm -f "$adapted"
	total=$((total + 1))
	[ $kernel = 0 ] && kernel_passed=$((kernel_passed + 1))
	[ $ours = 0 ] && ours_passed=$((ours_passed + 1))
	printf '%s\n  kernel: %s\n  ours:   %s\n' "$name" "$(verdict $kernel "$work/kernel")" "$(verdict $ours "$work/ours")"
done
echo "of $total scripts the kernel passes $kernel_passed, libmptcp $ours_passed"
