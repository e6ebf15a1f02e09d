//! An import: lines are put together again, checked, and stored batch by batch.

use std::{mem, sync::Arc};

use contracts::memory as wire;
use rpc::Fault;
use tonic::Streaming;

use crate::{
    config::Limits,
    convert::{self, BATCH},
    engine::Engine,
    error::Error,
    memory::Draft,
    shape::{Shape, SpaceKey},
};

/// Longest line.
const LINE_BYTES: usize = 1 << 20;
/// Bytes of lines that are stored in one commit, about.
const COMMIT_BYTES: usize = 8 << 20;

/// Stores the memories of `stream`.
///
/// # Errors
/// The fault of the first line that cannot be read or stored, by its number.
pub(super) async fn run(
    engine: Arc<Engine>,
    tenant: Arc<str>,
    limits: Limits,
    mut stream: Streaming<wire::ImportMemoriesRequest>,
) -> Result<wire::ImportMemoriesResponse, Fault> {
    let mut import: Option<Import> = None;
    while let Some(message) = stream.message().await.map_err(|status| Fault::from(&status))? {
        let import = match &mut import {
            Some(import) => import,
            None => {
                let key = convert::key(Arc::clone(&tenant), &message.namespace, "namespace")?;
                import.insert(Import::new(Arc::clone(&engine), key, limits))
            }
        };
        import.take(&message.lines).await?;
    }
    match import {
        Some(import) => import.end().await,
        None => Err(Fault::invalid("lines", "must begin with the header of an export")),
    }
}

struct Import {
    engine: Arc<Engine>,
    key: SpaceKey,
    limits: Limits,
    /// What the vectors of the lines are.
    shape: Option<Shape>,
    /// What came of a line whose end has not come yet.
    rest: Vec<u8>,
    /// The number of the line.
    number: u64,
    drafts: Vec<Draft>,
    bytes: usize,
    done: wire::ImportMemoriesResponse,
}

impl Import {
    fn new(engine: Arc<Engine>, key: SpaceKey, limits: Limits) -> Self {
        let done = wire::ImportMemoriesResponse::default();
        Self {
            engine,
            key,
            limits,
            shape: None,
            rest: Vec::new(),
            number: 0,
            drafts: Vec::new(),
            bytes: 0,
            done,
        }
    }

    async fn take(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(part);
            if self.rest.len() > LINE_BYTES {
                self.number += 1;
                return Err(self.wrong("is longer than 1 MiB"));
            }
            if part.ends_with(b"\n") {
                let line = mem::take(&mut self.rest);
                self.line(&line).await?;
            }
        }
        Ok(())
    }

    async fn end(mut self) -> Result<wire::ImportMemoriesResponse, Fault> {
        let line = mem::take(&mut self.rest);
        if !line.is_empty() {
            self.line(&line).await?;
        }
        if self.number == 0 {
            return Err(Fault::invalid("lines", "must begin with the header of an export"));
        }
        self.store().await?;
        Ok(self.done)
    }

    async fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.number += 1;
        if self.number == 1 {
            let shape = convert::lines::shape(line).map_err(|what| self.wrong(&what))?;
            self.limits.dimensions = shape.dimensions;
            self.shape = Some(shape.clone());
            return Ok(self.engine.admit(&self.key, shape).await?);
        }
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let memory = convert::lines::memory(line).map_err(|what| self.wrong(&what))?;
        let draft = convert::draft(Some(memory), self.limits).map_err(|fault| self.faulty(&fault))?;
        self.drafts.push(draft);
        self.bytes += line.len();
        if self.drafts.len() == BATCH || self.bytes >= COMMIT_BYTES {
            self.store().await?;
        }
        Ok(())
    }

    async fn store(&mut self) -> Result<(), Fault> {
        self.bytes = 0;
        let drafts = mem::take(&mut self.drafts);
        if drafts.is_empty() {
            return Ok(());
        }
        // The first line says it.
        let shape = self.shape.clone().unwrap_or_else(|| self.engine.shape(&self.key));
        let done = match self.engine.import(self.key.clone(), drafts, shape.clone()).await {
            Err(Error::Reembedded) => {
                let (given, ours) = (shape.to_string(), self.engine.shape(&self.key).to_string());
                return Err(Error::Mixed { given, ours }.into());
            }
            done => done?,
        };
        self.done.memories += done.ids.len() as u64;
        self.done.replaced += u64::from(done.replaced);
        Ok(())
    }

    fn wrong(&self, what: &str) -> Fault {
        Fault::invalid("lines", format!("line {} {what}", self.number))
    }

    fn faulty(&self, fault: &Fault) -> Fault {
        let violations = fault.violations().iter();
        let all: Vec<_> = violations.map(|one| format!("{} {}", one.field, one.must)).collect();
        self.wrong(&all.join("; "))
    }
}
