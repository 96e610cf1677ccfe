use super::super::EngineId;
use super::stash::{self, Answerer, Filter, Foreign, Kept, SO_GET_FILTER};
use super::*;

fn list(addresses: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for address in addresses {
        match address.parse().expect("an address") {
            IpAddr::V4(ip) => {
                bytes.extend((libc::AF_INET as u16).to_ne_bytes());
                bytes.extend([0, 0]);
                bytes.extend(ip.octets());
                bytes.extend([0; 8]);
            }
            IpAddr::V6(ip) => {
                bytes.extend((libc::AF_INET6 as u16).to_ne_bytes());
                bytes.extend([0; 6]);
                bytes.extend(ip.octets());
                bytes.extend([0; 4]);
            }
        }
    }
    bytes
}

/// Sets an option at a stage; all addresses but those that end with .99 are the host's.
fn set_at(wishes: &mut Wishes, stage: Stage, inet6: bool, option: i32, value: &[u8]) -> Result<(), i32> {
    let mut is_local = |a: SocketAddr| !a.ip().to_string().ends_with("99");
    let mut socket = Socket {
        inet6,
        stage,
        is_local: &mut is_local,
    };
    let before = *wishes;
    let result = wishes.set(option, value, &mut socket);
    if result.is_err() {
        assert_eq!(*wishes, before, "an error changes nothing");
    }
    result
}

fn set(wishes: &mut Wishes, option: i32, value: &[u8]) -> Result<(), i32> {
    set_at(wishes, Stage::Fresh, false, option, value)
}

fn listed(wishes: &Wishes) -> Vec<String> {
    wishes.listed.iter().map(|a| a.ip().to_string()).collect()
}

const A: &str = "192.0.2.1";
const B: &str = "198.51.100.1";

#[test]
fn bind_replaces_the_list_and_an_empty_one_lifts_it() {
    let mut wishes = Wishes::default();
    assert_eq!(set(&mut wishes, name::BIND, &list(&[A, B])), Ok(()));
    assert!(wishes.restricted);
    assert_eq!(listed(&wishes), [A, B]);
    assert_eq!(set(&mut wishes, name::BIND, &list(&[B])), Ok(()));
    assert_eq!(listed(&wishes), [B]);
    assert_eq!(set(&mut wishes, name::BIND, &[]), Ok(()));
    assert!(!wishes.restricted && wishes.listed.is_empty());
}

#[test]
fn add_before_the_connection_is_the_list_and_during_it_more() {
    let mut wishes = Wishes::default();
    assert_eq!(set(&mut wishes, name::ADD, &list(&[A])), Ok(()));
    assert_eq!(set(&mut wishes, name::ADD, &list(&[A, B])), Ok(()));
    assert!(wishes.restricted);
    assert_eq!(listed(&wishes), [A, B]);
    let mut wishes = Wishes::default();
    let added = set_at(&mut wishes, Stage::Multipath, false, name::ADD, &list(&[B]));
    assert_eq!((added, wishes.restricted), (Ok(()), false));
}

#[test]
fn remove_takes_from_the_list_or_from_all_addresses() {
    let mut wishes = Wishes::default();
    assert_eq!(set(&mut wishes, name::REMOVE, &list(&[A])), Ok(()));
    assert!(!wishes.restricted && wishes.removed.contains(A.parse().unwrap()));
    assert_eq!(set(&mut wishes, name::ADD, &list(&[A, B])), Ok(()));
    assert!(wishes.removed.is_empty());
    assert_eq!(set(&mut wishes, name::REMOVE, &list(&[A])), Ok(()));
    assert_eq!(listed(&wishes), [B]);
    assert_eq!(set(&mut wishes, name::REMOVE, &list(&[A])), Err(libc::EADDRNOTAVAIL));
    assert_eq!(set(&mut wishes, name::REMOVE, &list(&[B])), Err(libc::EBUSY));
}

#[test]
fn wrong_lists_have_their_errno() {
    let six = "2001:db8::1";
    let mut odd = list(&[A, B]);
    odd.pop();
    let mut port = list(&[A]);
    port[3] = 80;
    let mut strange = list(&[A]);
    strange[..2].copy_from_slice(&(libc::AF_UNIX as u16).to_ne_bytes());
    let many: Vec<u8> = list(&[A]).repeat(10_000);
    let above: Vec<String> = (0..33).map(|n| format!("192.0.2.{n}")).collect();
    let above: Vec<&str> = above.iter().map(String::as_str).collect();
    for (why, value, errno) in [
        ("foreign", list(&[A, "192.0.2.99"]), libc::EADDRNOTAVAIL),
        ("duplicate", list(&[A, B, A]), libc::EINVAL),
        ("another family than the socket's", list(&[A, six]), libc::EAFNOSUPPORT),
        ("odd length", odd, libc::EINVAL),
        ("one byte", vec![2], libc::EINVAL),
        ("port", port, libc::EINVAL),
        ("no Internet address", strange, libc::EAFNOSUPPORT),
        ("wildcard", list(&["0.0.0.0"]), libc::EADDRNOTAVAIL),
        ("10,000 entries", many, libc::ENOSPC),
        ("33 entries", list(&above), libc::ENOSPC),
    ] {
        for option in [name::BIND, name::ADD, name::REMOVE] {
            let mut wishes = Wishes::default();
            assert_eq!(set(&mut wishes, option, &value), Err(errno), "{why}");
        }
    }
    // An AF_INET6 socket takes both families, an IPv4 address also in its mapped form, which is the same one.
    let mut wishes = Wishes::default();
    let both = list(&[A, six]);
    assert_eq!(set_at(&mut wishes, Stage::Fresh, true, name::BIND, &both), Ok(()));
    let twice = list(&[A, "::ffff:192.0.2.1"]);
    assert_eq!(
        set_at(&mut wishes, Stage::Fresh, true, name::BIND, &twice),
        Err(libc::EINVAL)
    );
}

#[test]
fn stages_decide_what_may_be_set() {
    let one = 1i32.to_ne_bytes();
    let address = list(&[A]);
    for (stage, enable, bind) in [
        (Stage::Fresh, Ok(()), Ok(())),
        (Stage::Listening, Ok(()), Ok(())),
        (Stage::Connecting, Err(libc::EISCONN), Ok(())),
        (Stage::Multipath, Err(libc::EISCONN), Ok(())),
        (Stage::Plain, Err(libc::EISCONN), Err(libc::EOPNOTSUPP)),
        (Stage::Ended, Err(libc::EISCONN), Err(libc::ENOTCONN)),
    ] {
        let set = |option, value| set_at(&mut Wishes::default(), stage, false, option, value);
        assert_eq!(set(name::ENABLE, &one), enable, "{stage:?}");
        assert_eq!(set(name::BIND, &address), bind, "{stage:?}");
        for option in [name::SUBFLOWS, name::CONNID] {
            assert_eq!(set(option, &one), Err(libc::ENOPROTOOPT));
        }
    }
}

#[test]
fn numbers_are_judged() {
    let mut wishes = Wishes::default();
    for option in [name::ENABLE, name::NAMES, name::FATE, name::JOIN] {
        assert_eq!(set(&mut wishes, option, &[1, 0, 0]), Err(libc::EINVAL), "short");
    }
    for (option, above) in [(name::NAMES, 3i32), (name::JOIN, 4)] {
        assert_eq!(set(&mut wishes, option, &above.to_ne_bytes()), Err(libc::EINVAL));
        assert_eq!(set(&mut wishes, option, &2i32.to_ne_bytes()), Ok(()));
        assert_eq!(wishes.get(option), Some(2));
    }
    assert_eq!(wishes.get(name::ENABLE), Some(1));
    assert_eq!(set(&mut wishes, name::ENABLE, &0i32.to_ne_bytes()), Ok(()));
    assert_eq!(wishes.get(name::ENABLE), Some(0));
}

#[test]
fn a_filter_carries_every_wish() {
    let mut wishes = Wishes::default();
    assert_eq!(on_a_socket(&wishes), [wishes; 2]);
    set_at(
        &mut wishes,
        Stage::Fresh,
        true,
        name::BIND,
        &list(&[A, "2001:db8::1", "fe80::1"]),
    )
    .unwrap();
    wishes.removed.push("203.0.113.7:0".parse().unwrap()).unwrap();
    wishes.enable = Some(true);
    wishes.linux = true;
    wishes.fate = Some(false);
    wishes.names = Names::Fail;
    wishes.join = JoinPolicy::Never;
    assert_eq!(on_a_socket(&wishes), [wishes; 2]);
    let mut full = Wishes::default();
    for n in 0..ADDRESSES_MAX as u32 {
        let address = SocketAddr::new(core::net::Ipv4Addr::from_bits(n + 1).into(), 0);
        full.listed.push(address).unwrap();
        full.removed.push(address).unwrap();
    }
    assert_eq!(on_a_socket(&full), [full; 2]);
}

/// Reads the stash of a socket.
fn read(fd: i32) -> Result<Kept, Foreign> {
    stash::read(|room, len| {
        // SAFETY: `room` is null with no room, or has as much as `len` says.
        let result = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, SO_GET_FILTER, room.cast(), len) };
        if result < 0 {
            return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0));
        }
        Ok(())
    })
}

fn attach(fd: i32, program: &libc::sock_fprog) {
    let len = size_of::<libc::sock_fprog>() as u32;
    let program: *const libc::sock_fprog = program;
    // SAFETY: the program points to as many instructions as it says.
    let result = unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program.cast(), len) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// What a kernel socket gives back of what it was given, with a filter of either kind.
fn on_a_socket(wishes: &Wishes) -> [Wishes; 2] {
    use std::os::fd::AsRawFd;
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    assert_eq!(read(socket.as_raw_fd()), Ok(Kept::default()));
    let engine = EngineId::from_bits(0xfedc_ba98_7654).expect("not 0");
    let uid = u32::MAX;
    [None, Some(Answerer { engine, uid })].map(|answered_by| {
        attach(socket.as_raw_fd(), &Filter::new(wishes, answered_by).program());
        let kept = read(socket.as_raw_fd()).expect("a filter of ours");
        assert_eq!(kept.answered_by, answered_by);
        kept.wishes
    })
}

#[test]
fn somebody_elses_filter_is_told() {
    use std::os::fd::AsRawFd;
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let mut all = [libc::sock_filter {
        code: 6,
        jt: 0,
        jf: 0,
        k: u32::MAX,
    }];
    let program = libc::sock_fprog {
        len: 1,
        filter: all.as_mut_ptr(),
    };
    attach(socket.as_raw_fd(), &program);
    assert_eq!(read(socket.as_raw_fd()), Err(Foreign));
}

#[test]
fn wishes_as_words_come_back_and_half_of_them_do_not() {
    let mut wishes = Wishes::default();
    assert_eq!(stash::from_words(stash::words(&wishes).into_iter()), Some(wishes));
    for (option, value) in [(name::INTENT, 2i32), (name::CONGESTION, 5), (name::FATE, 1)] {
        set(&mut wishes, option, &value.to_ne_bytes()).expect("a value");
    }
    set(&mut wishes, name::BIND, &list(&[A, B])).expect("a list");
    let words = stash::words(&wishes);
    assert_eq!(stash::from_words(words.iter().copied()), Some(wishes));
    for len in 0..words.len() - 1 {
        assert_eq!(stash::from_words(words[..len].iter().copied()), None, "{len} words");
    }
}
