//! How a server behaves.

/// How a server behaves for its life.
#[derive(Debug, Clone)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is a habit of its own")]
pub struct S3ServerOptions {
    /// What it does with `If-None-Match` and `If-Match` on writes.
    pub conditional_writes: ConditionalWrites,
    /// How many keys a page of a listing has at most.
    pub page_keys: usize,
    /// Whether a page is in the order of bytes.
    pub sorted: bool,
    /// In which order keys come, from page to page.
    pub key_order: KeyOrder,
    /// Whether a page says how many keys it has.
    pub counted: bool,
    /// What it does about versions of objects when they are read.
    pub read_versions: ReadVersions,
    /// Headers that writes must not have: it knows not what they mean.
    pub unknown_headers: Vec<String>,
    /// Headers of writes whose names have one of these parts are taken and forgotten.
    pub forgotten_headers: Vec<String>,
    /// Whether its buckets were made with object lock. Such ones keep versions.
    pub object_lock: bool,
    /// Whether nobody may know what is locked.
    pub hides_locks: bool,
    /// Whether it takes a longer lock of an object, and forgets it.
    pub forgets_longer_locks: bool,
    /// Whether replies to reads say nothing of locks: who may know has to ask for them.
    pub locks_on_request: bool,
    /// What it does with access lists that are written.
    pub access_lists: AccessLists,
    /// Whether buckets keep what is replaced and deleted.
    pub versioned: bool,
    /// Whether keys are encoded in listings of versions, if that is asked for.
    pub encodes_versions: bool,
    /// Whether it gives the newest version whichever is asked for.
    pub passes_over_versions: bool,
    /// Whether replies say which version they are of, where versions are kept.
    pub names_versions: bool,
}

/// In which order a server lists keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrder {
    /// That of bytes.
    Bytes,
    /// All that is in a directory comes before what is beside it: `a/x`, `a-b`.
    Directories,
    /// None.
    None,
}

/// What a server does about versions of objects when they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadVersions {
    /// It names them by entity tags, and keeps `If-Match`.
    Kept,
    /// It names them, and gives whatever there is.
    Unchecked,
    /// It does not even name them.
    Unnamed,
}

/// What a server does with access lists that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLists {
    /// It keeps them.
    Kept,
    /// It refuses them, as where the owner of the bucket owns all that is in it.
    Refused,
}

/// What a server does with conditions of writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionalWrites {
    /// It keeps them, as AWS does.
    Honoured,
    /// It keeps `If-None-Match`, and does as if there were no `If-Match`.
    OnlyAbsent,
    /// It does as if there were none.
    Ignored,
    /// It refuses such writes.
    Refused,
}

impl Default for S3ServerOptions {
    fn default() -> Self {
        let conditional_writes = ConditionalWrites::Honoured;
        Self {
            conditional_writes,
            page_keys: 1_000,
            sorted: true,
            key_order: KeyOrder::Bytes,
            counted: true,
            read_versions: ReadVersions::Kept,
            unknown_headers: Vec::new(),
            forgotten_headers: Vec::new(),
            object_lock: false,
            hides_locks: false,
            locks_on_request: false,
            forgets_longer_locks: false,
            access_lists: AccessLists::Kept,
            versioned: false,
            encodes_versions: true,
            passes_over_versions: false,
            names_versions: true,
        }
    }
}

impl S3ServerOptions {
    /// Says what the server does with conditions of writes.
    #[must_use]
    pub fn with_conditional_writes(mut self, conditional_writes: ConditionalWrites) -> Self {
        self.conditional_writes = conditional_writes;
        self
    }

    /// Answers writes that have this header with 501, as a server does that does not know it.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        self.unknown_headers.push(name.to_owned());
        self
    }

    /// Takes headers of writes whose names have this part, and forgets them.
    #[must_use]
    pub fn forgetting_headers_with(mut self, part: &str) -> Self {
        self.forgotten_headers.push(part.to_owned());
        self
    }

    /// Takes objects with locks, and keeps versions, as each bucket with object lock does.
    #[must_use]
    pub fn with_object_lock(mut self) -> Self {
        self.object_lock = true;
        self.versioned()
    }

    /// Tells nobody what is locked, as where a key may not know.
    #[must_use]
    pub fn hiding_locks(mut self) -> Self {
        self.hides_locks = true;
        self
    }

    /// Takes longer locks of objects, and forgets them.
    #[must_use]
    pub fn forgetting_longer_locks(mut self) -> Self {
        self.forgets_longer_locks = true;
        self
    }

    /// Tells what locks an object only where that alone is asked for.
    #[must_use]
    pub fn telling_locks_on_request(mut self) -> Self {
        self.locks_on_request = true;
        self
    }

    /// Gives the newest version whichever is asked for, and says which one it is, or nothing of it.
    #[must_use]
    pub fn passing_over_versions(mut self, are_named: bool) -> Self {
        (self.passes_over_versions, self.names_versions) = (true, are_named);
        self
    }

    /// Refuses access lists, as where the owner of the bucket owns all that is in it.
    #[must_use]
    pub fn without_access_lists(mut self) -> Self {
        self.access_lists = AccessLists::Refused;
        self
    }

    /// Keeps what is replaced and deleted.
    #[must_use]
    pub fn versioned(mut self) -> Self {
        self.versioned = true;
        self
    }

    /// Does not encode keys in listings of versions, and does not say that it does.
    #[must_use]
    pub fn without_encoded_versions(mut self) -> Self {
        self.encodes_versions = false;
        self
    }

    /// Makes pages of listings small.
    #[must_use]
    pub fn with_page_keys(mut self, keys: usize) -> Self {
        self.page_keys = keys;
        self
    }

    /// Lists directory by directory, as some servers do, and not in the order of bytes.
    #[must_use]
    pub fn listing_by_directory(mut self) -> Self {
        self.key_order = KeyOrder::Directories;
        self
    }

    /// Lists in no order, as directory buckets do.
    #[must_use]
    pub fn listing_in_no_order(mut self) -> Self {
        self.key_order = KeyOrder::None;
        self
    }

    /// Gives each page backwards.
    #[must_use]
    pub fn unsorted(mut self) -> Self {
        self.sorted = false;
        self
    }

    /// Gives pages that do not say how many keys they have.
    #[must_use]
    pub fn uncounted(mut self) -> Self {
        self.counted = false;
        self
    }

    /// Says what the server does about versions of objects when they are read.
    #[must_use]
    pub fn with_read_versions(mut self, read_versions: ReadVersions) -> Self {
        self.read_versions = read_versions;
        self
    }
}
