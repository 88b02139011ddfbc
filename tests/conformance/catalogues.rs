//! Catalogues.

use backupkit::Env;
use backupkit::catalogue_conformance;
use backupkit::state::InMemoryCatalogue;
use backupkit::testing::conformance::CatalogueFixture;

catalogue_conformance!(in_memory, async || {
    CatalogueFixture::new(InMemoryCatalogue::new(&Env::system()))
});
