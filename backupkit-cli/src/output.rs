//! All that the program prints goes through here: results to standard output, the rest to standard
//! error.

pub(crate) mod format;
mod meter;
mod progress;
pub(crate) mod record;
mod stdout;
pub(crate) mod table;

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::io::Write as _;

use backupkit_core::model::{Event, EventKind, Level};
use backupkit_core::{Env, Error, Result};
use serde::Serialize;

pub(crate) use progress::ProgressView;

use self::progress::Bar;
use self::record::{ErrorRecord, Typed, TypedEvent};
use self::stdout::Stdout;
use crate::cli::GlobalOptions;
use crate::environment::Environment;
use crate::exit::Exit;

/// The form of the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Text for people.
    Text,
    /// One document.
    Json,
    /// One object a line.
    JsonLines,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProgressForm {
    Hidden,
    Bar,
    Lines,
    Records,
}

/// Where everything is printed. A reader that went away ends nothing but the printing.
pub(crate) struct Output {
    form: Form,
    progress: ProgressForm,
    quiet: bool,
    verbose: bool,
    colour: bool,
    env: Env,
    stdout: RefCell<Stdout>,
    bar: RefCell<Option<Bar>>,
    has_items: Cell<bool>,
}

impl Output {
    pub(crate) fn new(options: &GlobalOptions, environment: &Environment, env: Env) -> Self {
        let form = if options.json {
            Form::Json
        } else if options.ndjson {
            Form::JsonLines
        } else {
            Form::Text
        };
        let progress = match form {
            _ if options.no_progress => ProgressForm::Hidden,
            Form::Json => ProgressForm::Hidden,
            Form::JsonLines => ProgressForm::Records,
            Form::Text if options.quiet => ProgressForm::Hidden,
            Form::Text if environment.stderr_is_terminal => ProgressForm::Bar,
            Form::Text => ProgressForm::Lines,
        };
        Self {
            form,
            progress,
            quiet: options.quiet,
            verbose: options.verbose,
            colour: environment.takes_colour() && !options.no_color,
            env,
            stdout: RefCell::new(Stdout::new()),
            bar: RefCell::new(None),
            has_items: Cell::new(false),
        }
    }

    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// Prints a line of the result, or of the summary, for people.
    pub(crate) fn line(&self, text: impl Display) {
        if self.form == Form::Text {
            self.print(format!("{text}\n").as_bytes());
        }
    }

    /// As [`Self::line`], but not if only problems are to be told.
    pub(crate) fn summary_line(&self, text: impl Display) {
        if !self.quiet {
            self.line(text);
        }
    }

    /// Prints bytes as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        self.print(bytes);
    }

    /// Prints the one document, or the last object of a stream.
    pub(crate) fn document(&self, kind: &'static str, document: &impl Serialize) {
        match self.form {
            Form::Text => {}
            Form::Json => self.print_json(document),
            Form::JsonLines => self.record(kind, document),
        }
    }

    /// Prints one of many things: a line for people, an item of the array that is the document, or an
    /// object of a stream. [`Self::end_items`] ends them.
    pub(crate) fn item(&self, kind: &'static str, text: impl Display, item: &impl Serialize) {
        match self.form {
            Form::Text => self.line(text),
            Form::Json => {
                self.print(if self.has_items.replace(true) { b",\n" } else { b"[" });
                self.print(&json(item));
            }
            Form::JsonLines => self.record(kind, item),
        }
    }

    /// Prints one of many things besides the document: a line for people, an object of a stream.
    pub(crate) fn detail(&self, kind: &'static str, text: impl Display, detail: &impl Serialize) {
        match self.form {
            Form::Text => self.summary_line(text),
            Form::Json => {}
            Form::JsonLines => self.record(kind, detail),
        }
    }

    /// Tells programs how something stands that goes on.
    pub(crate) fn status(&self, status: &impl Serialize) {
        if self.progress == ProgressForm::Records {
            self.record("status", status);
        }
    }

    /// Ends what [`Self::item`] began.
    pub(crate) fn end_items(&self) {
        if self.form == Form::Json {
            self.print(if self.has_items.replace(false) { b"]\n" } else { b"[]\n" });
        }
    }

    /// Tells people what is going on.
    pub(crate) fn note(&self, text: impl Display) {
        if self.form == Form::Text && !self.quiet {
            self.stderr_line(&text.to_string());
        }
    }

    /// Tells of something that is not as it should be.
    pub(crate) fn warning(&self, text: impl Display) {
        match self.form {
            Form::Text => self.stderr_line(&format!("{} {text}", self.paint(YELLOW, "warning:"))),
            Form::Json => {}
            Form::JsonLines => self.record("warning", &record::Message::new(text)),
        }
    }

    /// Tells that a part of the work failed while the rest goes on.
    pub(crate) fn failure(&self, error: &Error) {
        match self.form {
            Form::Text => {
                let text = format::one_line(&error.report());
                self.stderr_line(&format!("{} {text}", self.paint(RED, "error:")));
            }
            Form::Json => {}
            Form::JsonLines => {
                self.record("error", &ErrorRecord::new(error, Exit::of_error(error)));
            }
        }
    }

    /// Tells what happened in a run.
    pub(crate) fn event(&self, event: &Event) {
        if self.form == Form::JsonLines {
            self.stream_line(&TypedEvent::new(event));
            return;
        }
        let text = record::sentence(&event.kind);
        match event.level {
            Level::Error => {
                if self.form == Form::Text {
                    self.stderr_line(&format!("{} {text}", self.paint(RED, "error:")));
                }
            }
            Level::Warning => self.warning(text),
            Level::Info if self.verbose || !is_detail(&event.kind) => self.note(text),
            Level::Info => {}
        }
    }

    /// Tells why the program ends. In JSON it is the last line of standard error.
    pub(crate) fn error(&self, error: &Error, exit: Exit) {
        self.hide_bar();
        if self.form != Form::Text {
            let text = json(&Typed::new("error", &self.env, &ErrorRecord::new(error, exit)));
            self.stderr_line(&String::from_utf8_lossy(&text));
            return;
        }
        let text = format::one_line(&record::message(error));
        self.stderr_line(&format!("{} {text}", self.paint(RED, "error:")));
        if let Some(hint) = error.hint() {
            self.stderr_line(&format!("{} {}", self.paint(CYAN, "hint:"), format::one_line(hint)));
        }
    }

    /// Whether nobody reads standard output any more, or it cannot be written.
    pub(crate) fn is_closed(&self) -> bool {
        self.stdout.borrow().is_closed()
    }

    /// Writes out what was printed so far, for what must not be lost.
    ///
    /// # Errors
    /// If not all of it was taken, also because its reader went away.
    pub(crate) fn deliver(&self) -> Result<()> {
        self.stdout.borrow_mut().deliver()
    }

    /// Writes out what is left and returns what went wrong with standard output, except that its
    /// reader went away.
    pub(crate) fn finish(&self) -> Option<Error> {
        self.hide_bar();
        self.stdout.borrow_mut().finish()
    }

    fn record(&self, kind: &'static str, record: &impl Serialize) {
        self.stream_line(&Typed::new(kind, &self.env, record));
    }

    /// One object that its reader gets at once.
    fn stream_line(&self, object: &impl Serialize) {
        self.print_json(object);
        self.stdout.borrow_mut().flush();
    }

    fn print_json(&self, document: &impl Serialize) {
        let mut text = json(document);
        text.push(b'\n');
        self.print(&text);
    }

    fn print(&self, bytes: &[u8]) {
        let print = || self.stdout.borrow_mut().write(bytes);
        match &*self.bar.borrow() {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn stderr_line(&self, text: &str) {
        let print = || {
            // In the order in which things happened, where both end on one terminal.
            self.stdout.borrow_mut().flush();
            // There is nowhere left to complain if this fails.
            drop(writeln!(std::io::stderr(), "{text}"));
        };
        match &*self.bar.borrow() {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn hide_bar(&self) {
        drop(self.bar.borrow_mut().take());
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("{colour}{text}\x1b[0m") } else { text.to_owned() }
    }
}

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const CYAN: &str = "\x1b[36m";

/// What the summary tells anyway.
fn is_detail(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::ParentFound { .. }
            | EventKind::SnapshotCreated { .. }
            | EventKind::Paused { .. }
    )
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|error| {
        // Our own types serialize; a line must stay a JSON value whatever happens.
        let message = format!("cannot write this as JSON: {error}");
        serde_json::Value::from(message).to_string().into_bytes()
    })
}
