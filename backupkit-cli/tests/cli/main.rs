//! The program from outside: what it prints, takes, and ends with.

mod addresses;
mod exit_codes;
mod help;
mod interrupt;
mod output;
mod passwords;
mod restore;
mod scene;
mod several;
mod terminal;
