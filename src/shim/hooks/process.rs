//! The variadic calls that lead everywhere: fcntl, prctl, syscall. Their arity is fixed here: C passes the arguments that it has, and the kernel reads the
//! ones that the request has.

use super::{active, padded, plain};
use super::{connect, descriptors, epoll, listen, options, receive, write};
use crate::shim::{sockets, start};
use core::ffi::{c_int, c_long, c_ulong};

blocking! {
    unsafe fn fcntl(fd: c_int, cmd: c_int, argument: usize) -> c_int = libc::SYS_fcntl, [fd, cmd, argument] {
        sockets::controlled(fd, cmd, fcntl::real(fd, cmd, argument))
    }

    unsafe fn fcntl64(fd: c_int, cmd: c_int, argument: usize) -> c_int = libc::SYS_fcntl, [fd, cmd, argument] {
        sockets::controlled(fd, cmd, fcntl64::real(fd, cmd, argument))
    }

    unsafe fn prctl(option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int
        = libc::SYS_prctl, [option, a, b, c, d]
    {
        let done = prctl::real(option, a, b, c, d);
        if option == libc::PR_SET_SECCOMP && done == 0 {
            start::set_sandboxed();
        }
        done
    }

    unsafe fn syscall(nr: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> c_long
        = nr, [a, b, c, d, e, f]
    {
        if active() {
            dispatch(nr, [a, b, c, d, e, f]).unwrap_or_else(|| syscall::real(nr, a, b, c, d, e, f))
        } else {
            syscall::real(nr, a, b, c, d, e, f)
        }
    }
}

/// The hooked functions by their number; everything else is the kernel's.
unsafe fn dispatch(nr: c_long, args: [usize; 6]) -> Option<c_long> {
    let [a, b, c, d, e, f] = args;
    let fd = a as c_int;
    Some(match nr {
        libc::SYS_socket => descriptors::socket::socket(fd, b as _, c as _) as c_long,
        libc::SYS_connect => connect::connect(fd, b as _, c as _) as c_long,
        libc::SYS_listen => listen::listen(fd, b as _) as c_long,
        libc::SYS_accept => listen::accept(fd, b as _, c as _) as c_long,
        libc::SYS_accept4 => listen::accept4(fd, b as _, c as _, d as _) as c_long,
        libc::SYS_getpeername => descriptors::getpeername::getpeername(fd, b as _, c as _) as c_long,
        libc::SYS_getsockname => descriptors::getsockname::getsockname(fd, b as _, c as _) as c_long,
        libc::SYS_shutdown => descriptors::shutdown::shutdown(fd, b as _) as c_long,
        libc::SYS_dup => descriptors::dup::dup(fd) as c_long,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_dup2 => descriptors::dup2::dup2(fd, b as _) as c_long,
        libc::SYS_dup3 => descriptors::dup3::dup3(fd, b as _, c as _) as c_long,
        libc::SYS_fcntl => fcntl(fd, b as _, c) as c_long,
        libc::SYS_ioctl => options::ioctl::ioctl(fd, b as _, c as _) as c_long,
        libc::SYS_getsockopt => options::getsockopt::getsockopt(fd, b as _, c as _, d as _, e as _) as c_long,
        libc::SYS_setsockopt => options::setsockopt::setsockopt(fd, b as _, c as _, d as _, e as _) as c_long,
        libc::SYS_epoll_ctl => epoll::epoll_ctl::epoll_ctl(fd, b as _, c as _, d as _) as c_long,
        libc::SYS_sendto => write::sendto(fd, b as _, c, d as _, e as _, f as _) as c_long,
        libc::SYS_sendmsg => write::sendmsg(fd, b as _, c as _) as c_long,
        libc::SYS_sendmmsg => write::sendmmsg(fd, b as _, c as _, d as _) as c_long,
        libc::SYS_write => write::write(fd, b as _, c) as c_long,
        libc::SYS_writev => write::writev(fd, b as _, c as _) as c_long,
        libc::SYS_recvfrom => receive::recvfrom(fd, b as _, c, d as _, e as _, f as _) as c_long,
        libc::SYS_recvmsg => receive::recvmsg(fd, b as _, c as _) as c_long,
        libc::SYS_recvmmsg => receive::recvmmsg(fd, b as _, c as _, d as _, e as _) as c_long,
        libc::SYS_read => receive::read(fd, b as _, c) as c_long,
        libc::SYS_readv => receive::readv(fd, b as _, c as _) as c_long,
        libc::SYS_prctl => prctl(fd, b as _, c as _, d as _, e as _) as c_long,
        libc::SYS_seccomp => {
            let done = syscall::real(nr, a, b, c, d, e, f);
            if done >= 0 && a as u32 <= libc::SECCOMP_SET_MODE_FILTER {
                start::set_sandboxed();
            }
            done
        }
        _ => return None,
    })
}
