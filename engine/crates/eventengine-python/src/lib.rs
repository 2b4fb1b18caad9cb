//! The binding: converts, releases the GIL, maps errors; nothing else.
//!
//! Owns the module `eventengine._native`. Every call that may wait runs with the
//! GIL released, so that Python's threads are never held up by the engine's.

use std::sync::Mutex;
use std::time::Duration;

use eventengine_io::{Error, audit as auditing, load, log};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

pyo3::create_exception!(
    _native,
    ConfigurationError,
    PyValueError,
    "A configuration that can't be used. `args` are the path of the key and the message."
);
pyo3::create_exception!(
    _native,
    EngineError,
    PyRuntimeError,
    "The engine can't do what was asked; the message says why."
);

/// Longest wait that is accepted; longer ones are cut to it.
const WAIT_SECONDS_MAX: f64 = 86_400.0;

fn raise(error: Error) -> PyErr {
    match error {
        Error::Configuration { path, message } => ConfigurationError::new_err((path, message)),
        Error::Engine(message) => EngineError::new_err(message),
    }
}

fn duration(seconds: f64) -> Duration {
    if seconds.is_nan() {
        Duration::ZERO
    } else {
        Duration::from_secs_f64(seconds.clamp(0.0, WAIT_SECONDS_MAX))
    }
}

fn poisoned() -> PyErr {
    EngineError::new_err("an earlier call into the native module panicked; restart the process")
}

/// One engine: allocated at construction, running from `start` to `stop`.
#[pyclass(module = "eventengine._native")]
struct Engine {
    inner: Mutex<eventengine_io::Engine>,
    observer: eventengine_io::Observer,
}

#[pymethods]
impl Engine {
    #[new]
    fn new(py: Python<'_>, config_json: &str, identity_json: &str) -> PyResult<Self> {
        let inner = py.detach(|| eventengine_io::Engine::new(config_json, identity_json)).map_err(raise)?;
        let observer = inner.observer();
        Ok(Engine { inner: Mutex::new(inner), observer })
    }

    /// Starts the threads. Kafka being away is no error: the engine is not ready and says why.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| match self.inner.lock() {
            Ok(mut inner) => inner.start().map_err(raise),
            Err(_) => Err(poisoned()),
        })
    }

    /// The sample closed at `at_seconds`, or the latest; None if it isn't kept.
    #[pyo3(signature = (at_seconds=None))]
    fn snapshot<'py>(&self, py: Python<'py>, at_seconds: Option<i64>) -> Option<Bound<'py, PyBytes>> {
        let sample = py.detach(|| self.observer.snapshot(at_seconds))?;
        Some(PyBytes::new(py, &sample))
    }

    /// The figures of now, as Prometheus text.
    fn metrics<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let text = py.detach(|| self.observer.metrics());
        PyBytes::new(py, text.as_bytes())
    }

    /// `{"ready", "live", "reasons"}` as JSON.
    fn readiness<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let text = py.detach(|| self.observer.readiness_json());
        PyBytes::new(py, text.as_bytes())
    }

    /// Stops fetching, flushes, commits, leaves the group. True if all of it was done in time.
    fn stop(&self, py: Python<'_>, deadline_seconds: f64) -> PyResult<bool> {
        py.detach(|| match self.inner.lock() {
            Ok(mut inner) => Ok(inner.stop(duration(deadline_seconds))),
            Err(_) => Err(poisoned()),
        })
    }
}

/// An open-loop load: one run of a plan, on threads of its own.
#[pyclass(module = "eventengine._native", frozen)]
struct LoadGenerator {
    inner: load::LoadGenerator,
}

#[pymethods]
impl LoadGenerator {
    #[new]
    fn new(py: Python<'_>, plan_json: &str) -> PyResult<Self> {
        let inner = py.detach(|| load::LoadGenerator::new(plan_json)).map_err(raise)?;
        Ok(LoadGenerator { inner })
    }

    /// Connects to the target and begins with the schedule.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.inner.start()).map_err(raise)
    }

    /// The counts so far, as JSON.
    fn progress<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let text = py.detach(|| self.inner.progress()).map_err(raise)?;
        Ok(PyBytes::new(py, text.as_bytes()))
    }

    /// Waits for the end of the run. False if it goes on after `timeout_seconds`.
    fn wait(&self, py: Python<'_>, timeout_seconds: f64) -> PyResult<bool> {
        py.detach(|| self.inner.wait(duration(timeout_seconds))).map_err(raise)
    }

    /// Ends the schedule early; what was sent is waited for.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.inner.stop());
    }

    /// The report of a run that has ended, as JSON.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let text = py.detach(|| self.inner.result()).map_err(raise)?;
        Ok(PyBytes::new(py, text.as_bytes()))
    }
}

/// Reads a topic with read_committed and checks that every (producer, sequence) is there exactly once.
#[pyfunction]
fn audit<'py>(py: Python<'py>, plan_json: &str) -> PyResult<Bound<'py, PyBytes>> {
    let report = py.detach(|| auditing::audit(plan_json)).map_err(raise)?;
    Ok(PyBytes::new(py, report.as_bytes()))
}

/// Says from which level on the native half logs, and whether as `json` or `text`.
#[pyfunction]
fn set_up_log(level: &str, form: &str) -> PyResult<()> {
    let refused =
        |name: &str, value: &str| ConfigurationError::new_err((name.to_owned(), format!("not {value:?}")));
    let level = log::Level::from_name(level).ok_or_else(|| refused("level", level))?;
    let form = log::Form::from_name(form).ok_or_else(|| refused("form", form))?;
    log::set_up(level, form);
    Ok(())
}

/// How this module was built: profile, version and the hash of its sources.
#[pyfunction]
fn build_info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let information = PyDict::new(py);
    information.set_item("profile", eventengine_io::BUILD_PROFILE)?;
    information.set_item("version", eventengine_io::VERSION)?;
    information.set_item("source_hash", eventengine_io::SOURCE_HASH)?;
    Ok(information)
}

/// The native half of EventEngine.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("ConfigurationError", module.py().get_type::<ConfigurationError>())?;
    module.add("EngineError", module.py().get_type::<EngineError>())?;
    module.add_class::<Engine>()?;
    module.add_class::<LoadGenerator>()?;
    module.add_function(wrap_pyfunction!(audit, module)?)?;
    module.add_function(wrap_pyfunction!(build_info, module)?)?;
    module.add_function(wrap_pyfunction!(set_up_log, module)?)?;
    Ok(())
}
