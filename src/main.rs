//! The program; everything lies in the library.

fn main() {}
