//! Questions to a person. Where nobody sits at a terminal there is no answer, and no wait for one.

use std::io::{self, IsTerminal as _};

/// Whether somebody can be asked: stdin and stderr are a terminal.
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// A yes-or-no question; no answer is no.
pub fn confirm(question: &str) -> bool {
    can_ask() && dialoguer::Confirm::new().with_prompt(question).default(false).interact().unwrap_or(false)
}

/// A line of text.
pub fn line(question: &str) -> Option<String> {
    if !can_ask() {
        return None;
    }
    dialoguer::Input::new().with_prompt(question).allow_empty(true).interact_text().ok()
}

/// A password or passphrase; it is not shown while it is typed.
pub fn hidden(question: &str) -> Option<String> {
    if !can_ask() {
        return None;
    }
    dialoguer::Password::new().with_prompt(question).allow_empty_password(true).interact().ok()
}
