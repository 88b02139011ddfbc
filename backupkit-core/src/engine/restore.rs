//! Stub until merged.
/// Stub.
#[derive(Debug)]
pub struct RestoreRequest {}
/// Stub.
#[derive(Debug)]
pub struct RestoreReport {}
/// Stub.
#[derive(Debug)]
pub struct VerifyCounts {}
pub(super) async fn run(_r: super::RunContext, _q: RestoreRequest) -> crate::Result<RestoreReport> {
    Ok(RestoreReport {})
}
