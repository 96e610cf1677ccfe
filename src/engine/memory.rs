//! How much memory the connections' buffers may take together: an eighth of what the machine, or the engine's control group, has.

use std::fs;

/// What is assumed where the kernel does not tell, and the least: below it no wire of today could be filled.
const LEAST: u64 = 32 << 20;
const SHARE: u64 = 8;

/// Bytes.
pub fn budget() -> usize {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let group = fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|text| limit_file(&text))
        .and_then(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    let least = machine.into_iter().chain(group).min();
    usize::try_from(least.map_or(LEAST, |bytes| (bytes / SHARE).max(LEAST))).unwrap_or(usize::MAX)
}

/// MemTotal of /proc/meminfo, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Where the limit of a control group is, which is "max" or a number; for /proc/self/cgroup.
fn limit_file(cgroup: &str) -> Option<String> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(format!("/sys/fs/cgroup{}/memory.max", path.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_understood() {
        assert_eq!(
            total("MemTotal:       16314536 kB\nMemFree: 1 kB\n"),
            Some(16_314_536 * 1024)
        );
        assert_eq!(total("MemFree: 1 kB\n"), None);
        let of = |text| limit_file(text);
        assert_eq!(
            of("1:name=x:/y\n0::/a.slice/b\n").as_deref(),
            Some("/sys/fs/cgroup/a.slice/b/memory.max")
        );
        assert_eq!(of("0::/\n").as_deref(), Some("/sys/fs/cgroup/memory.max"));
        assert_eq!(of("4:memory:/z\n"), None);
    }

    #[test]
    fn there_is_always_something() {
        assert!(budget() >= LEAST as usize);
    }
}
