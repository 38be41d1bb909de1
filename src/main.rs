//! Parse and call: everything else is in the library, where it can be tested.

fn main() -> std::process::ExitCode {
    wasmorch::cli::main()
}
