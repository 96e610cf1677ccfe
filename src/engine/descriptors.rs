//! How the engine shares out the descriptors that it may have. A connection takes one for its shadow and, as long as there are some, one for its
//! guard. What is over is for requests, and for connections on their way to a program.

use rustix::process::{getrlimit, Resource};

fn limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(usize::MAX)
}

/// The number that no connection's descriptor reaches, the kernel giving the lowest one that is free.
pub fn for_connections() -> usize {
    let limit = limit();
    limit - limit / 8
}

/// With so many guards accepted connections do without: the rest is for the connections themselves.
pub fn for_guards() -> usize {
    limit() / 3
}
