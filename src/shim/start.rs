//! Turns the hooks on, in a process that has libmptcp.so preloaded, once its constructors run. Before that, and in the engine, every hook is a plain system call.

#[cfg(feature = "preload")]
use super::{config, hooks, log, table};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

static ACTIVE: AtomicBool = AtomicBool::new(false);
static RESOLVED: AtomicBool = AtomicBool::new(false);
static SANDBOXED: AtomicBool = AtomicBool::new(false);

/// Whether hooks do anything.
pub fn active() -> bool {
    ACTIVE.load(Relaxed)
}

/// Whether the real functions are known.
pub fn resolved() -> bool {
    RESOLVED.load(Relaxed)
}

/// Whether the program has confined itself with seccomp since it started: system calls that it did not ask for could kill it.
pub fn sandboxed() -> bool {
    SANDBOXED.load(Relaxed)
}

/// The program has installed a seccomp filter, or is about to.
pub fn set_sandboxed() {
    SANDBOXED.store(true, Relaxed);
}

#[cfg(feature = "preload")]
#[used]
#[link_section = ".init_array"]
static CONSTRUCTOR: extern "C" fn() = construct;

#[cfg(feature = "preload")]
extern "C" fn construct() {
    hooks::resolve();
    RESOLVED.store(true, Relaxed);
    if crate::engine::entry::executed() {
        return;
    }
    config::set(fill);
    // SAFETY: the handlers only add to an atomic counter.
    let counted = unsafe { libc::pthread_atfork(None, Some(count_fork), Some(count_fork)) } == 0;
    let config = config::get();
    log::start(config.setting(b"MPTCP_LOG").map_or(log::Level::Off, log::parse_level));
    if log::enabled(log::Level::Warn) {
        warn_of_settings(config);
    }
    // Uncounted forks could make us take a socket that another process holds too.
    if counted && !config.off {
        ACTIVE.store(true, Relaxed);
    }
}

/// The engine ignores a setting that makes no sense, where the program's user does not see why.
#[cfg(feature = "preload")]
fn warn_of_settings(config: &config::Config) {
    let paths = config.setting(b"MPTCP_PATHS").unwrap_or_default();
    match crate::link::PathConfig::parse(&String::from_utf8_lossy(paths)) {
        Err(error) => log::warning!("{error}; the setting is ignored"),
        Ok(paths) => {
            for name in paths.named().filter(|name| !crate::link::interface_exists(name)) {
                log::warning!("MPTCP_PATHS: there is no interface {name} at present");
            }
        }
    }
    match config.setting(b"MPTCP_LINK").unwrap_or_default() {
        b"" | b"auto" | b"kernel" => {}
        other => {
            let other = String::from_utf8_lossy(other);
            log::warning!("MPTCP_LINK: \"{other}\" is neither auto nor kernel; the setting is ignored");
        }
    }
}

#[cfg(feature = "preload")]
unsafe extern "C" fn count_fork() {
    table::count_fork();
}

#[cfg(feature = "preload")]
fn fill(config: &mut config::Config) {
    use core::ffi::CStr;
    extern "C" {
        static environ: *const *const core::ffi::c_char;
    }
    let (mut xdg, mut home) = (config::Path::EMPTY, config::Path::EMPTY);
    // SAFETY: constructors run on one thread, before the program can change its environment; it ends with a null pointer.
    unsafe {
        let mut variable = environ;
        while !variable.is_null() && !(*variable).is_null() {
            let text = CStr::from_ptr(*variable).to_bytes();
            config.take_variable(text);
            for (name, path) in [(&b"XDG_CONFIG_HOME="[..], &mut xdg), (b"HOME=", &mut home)] {
                if let Some(value) = text.strip_prefix(name).filter(|value| !value.is_empty()) {
                    path.push(value);
                }
            }
            variable = variable.add(1);
        }
    }
    config.take_user_file(&xdg, &home);
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME writes 16 bytes.
    let args = [libc::PR_GET_NAME as usize, name.as_mut_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: as above.
    if unsafe { super::sys::call(libc::SYS_prctl, args) }.is_ok() {
        let len = name.iter().position(|&b| b == 0).unwrap_or(name.len());
        config.set_program(&name[..len]);
    }
    config.place = crate::control::Cgroup::current().ok();
    file_of(construct as *const (), &mut config.library);
    // SAFETY: AT_BASE is the address of the linker's own image.
    let linker = unsafe { libc::getauxval(libc::AT_BASE) };
    file_of(linker as *const (), &mut config.linker);
}

/// The file that `address` was mapped from, made absolute: LD_PRELOAD may have named it relative to the directory that the program starts in.
#[cfg(feature = "preload")]
fn file_of(address: *const (), path: &mut config::Path) {
    use core::ffi::CStr;
    let mut info = core::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: dladdr fills the structure when it returns non-zero; the name belongs to the linker and stays.
    let name = unsafe {
        if address.is_null() || libc::dladdr(address.cast(), info.as_mut_ptr()) == 0 {
            return;
        }
        let info = info.assume_init();
        if info.dli_fname.is_null() {
            return;
        }
        CStr::from_ptr(info.dli_fname).to_bytes()
    };
    if !name.starts_with(b"/") {
        let mut directory = [0u8; 512];
        let args = [directory.as_mut_ptr() as usize, directory.len(), 0, 0, 0, 0];
        // SAFETY: the kernel writes at most the given length, the ending NUL included.
        let Ok(len) = (unsafe { super::sys::call(libc::SYS_getcwd, args) }) else {
            return;
        };
        // "(unreachable)" is what a directory outside of the root begins with.
        if directory[0] != b'/' || !path.push(&directory[..len.saturating_sub(1)]) || !path.push(b"/") {
            return;
        }
    }
    path.push(name);
}
