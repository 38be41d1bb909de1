//! Paths that end in a slash, a dot or two, and calls on what they lead to: as on Linux.

use super::*;

#[test]
fn a_slash_or_a_dot_at_the_end_says_what_may_be_there() {
    check_everywhere(
        "write f x => ok
         mkdir f/ => Exist
         symlink none m => ok
         mkdir m/ => Exist
         open h m/ cw => IsDirectory
         symlink tmp l => ok
         open h l/ cw => IsDirectory
         open h l dn => NotDirectory
         symlink o/x o => ok
         mkdir o/ => Exist
         rm o/ => NotDirectory
         rmdir tmp/. => Invalid
         rmdir tmp/.. => NotEmpty
         mv . z => Busy
         mv . no/z => NoEntry",
    );
}

#[test]
fn no_directory_is_open_for_writing() {
    check_everywhere(
        "open d tmp r => ok
         pwrite d 0 x => BadDescriptor
         truncate d 0 => Invalid",
    );
}
