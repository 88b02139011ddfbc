//! Catalogues.

use backupkit::Env;
use backupkit::catalogue_conformance;
use backupkit::state::InMemoryStore;
use backupkit::testing::conformance::CatalogueFixture;

catalogue_conformance!(in_memory, async || {
    CatalogueFixture::new(InMemoryStore::new(&Env::system()))
});
