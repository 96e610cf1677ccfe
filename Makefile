all:
	cargo build --release --bin mptcp
	cargo rustc --release --lib --crate-type cdylib --features preload
