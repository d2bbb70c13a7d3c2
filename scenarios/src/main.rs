//! The `converge` command: thin over the libraries.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    keep_small_buffers();
    cli::main()
}

/// Has the driver keep no large buffers. It would keep dozens of up to 4 MiB after a large transaction, and the next
/// large row would come on top of them.
#[allow(unsafe_code, reason = "the driver can be told by an environment variable only")]
fn keep_small_buffers() {
    const VARIABLE: &str = "MYSQL_ASYNC_BUFFER_SIZE_CAP";
    const BYTES: &str = "65536";
    if std::env::var_os(VARIABLE).is_none() {
        // SAFETY: no other thread runs yet that could read the environment.
        unsafe { std::env::set_var(VARIABLE, BYTES) };
    }
}
