#!/bin/sh
# What the demo and the tests need beyond Rust and make: the one list of it.
# As root on Debian and its kin missing packages are installed; elsewhere one line names them.
# usage: tests/requirements.sh demo|check|programs
set -eu

# program:package
demo='cc:gcc curl:curl ip:iproute2 mptcpize:mptcpize'
check="$demo diff:diffutils nc.openbsd:netcat-openbsd nft:nftables nginx:nginx openssl:openssl python3:python3 setpriv:util-linux
socat:socat ss:iproute2 sysctl:procps"
programs="$check apache2:apache2 git:git haproxy:haproxy inetd:openbsd-inetd iperf3:iperf3 javac:default-jdk-headless
nc.traditional:netcat-traditional node:nodejs psql:postgresql redis-server:redis-server redis-benchmark:redis-tools rsync:rsync scp:openssh-client
sshd:openssh-server vsftpd:vsftpd wget:wget wrk:wrk"

case ${1-} in
demo) list=$demo ;;
check) list=$check ;;
programs) list=$programs ;;
*) echo "usage: $0 demo|check|programs" >&2; exit 2 ;;
esac

# An unprivileged user's PATH leaves the administrator's programs out.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
missing=
for pair in $list; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing:$missing (on Debian, as root: apt-get install$missing)" >&2
    exit 1
fi

# A package that is here for tests must not start its service on this machine.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install --yes --quiet=2 --no-install-recommends $missing >/dev/null; }
install 2>/dev/null || { apt-get update --quiet=2 && install; } || {
    echo "apt-get install$missing failed" >&2
    exit 1
}
