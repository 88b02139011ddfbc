//! For implementers of adapters: conformance suites, fault wrappers and fakes.
