//! Entry of the program: reads the command line, makes the runtime, prints what went wrong.

use std::process::ExitCode;

use xgenctl::{cli, report};

fn main() -> ExitCode {
    let cli = cli::parse();
    // A rehearsal's servers live on a clock that jumps over every wait, which one thread allows.
    let runtime = if cli.is_rehearsal() {
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()
    } else {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
    };
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(cli.run());
            // A prompt that still waits for a key must not keep the program alive.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(report::CliError::failed("the asynchronous runtime cannot start").caused_by(error)),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            report::out::print_error(&error);
            error.exit.into()
        }
    }
}
