//! Hosts as they really are: programs of this machine, and an OpenSSH server started for each test.
//!
//! What needs no sshd runs everywhere. The rest runs where `XGENCTL_REAL=1` is set, and says so where it does not.

#[path = "hosts/fixture.rs"]
mod fixture;
#[path = "hosts/local.rs"]
mod local;
#[path = "hosts/login.rs"]
mod login;
#[path = "hosts/over_ssh.rs"]
mod over_ssh;
#[path = "hosts/trust.rs"]
mod trust;
#[path = "hosts/users.rs"]
mod users;
