//! `mesh.image`: how large the service binaries are, built as for an image.

use std::{fs, path::Path, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};
use testkit::Round;
use tokio::process::Command;

use crate::Service;

/// Builds every service with the profile `dist` in this program's own workspace; the value is the largest.
pub(super) async fn build() -> Result<Round> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    ensure!(root.join("Cargo.toml").exists(), "the sources this program was built from are gone");
    let mut command = Command::new("cargo");
    command.current_dir(&root).args(["build", "--profile", "dist"]);
    for service in Service::ALL {
        command.args(["-p", service.name()]);
    }
    let status =
        command.stdin(Stdio::null()).stdout(Stdio::null()).status().await.context("cannot run cargo")?;
    ensure!(status.success(), "cargo could not build the services: {status}");
    let target = target_folder(&root).await?;
    let mut details = Map::new();
    let mut largest = 0;
    for service in Service::ALL {
        let path = Path::new(&target).join("dist").join(service.name());
        let bytes = fs::metadata(&path).with_context(|| format!("{} was not built", path.display()))?.len();
        largest = largest.max(bytes);
        details.insert(service.name().to_owned(), json!(bytes));
    }
    #[expect(clippy::cast_precision_loss, reason = "sizes of binaries are far below 2^52")]
    let value = largest as f64;
    Ok(Round { value, details: Value::Object(details) })
}

async fn target_folder(root: &Path) -> Result<String> {
    let mut command = Command::new("cargo");
    command.current_dir(root).args(["metadata", "--format-version", "1", "--no-deps"]);
    let output = command.stdin(Stdio::null()).output().await.context("cannot run cargo")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata is no JSON")?;
    let folder = metadata["target_directory"].as_str().context("cargo metadata names no target folder")?;
    Ok(folder.to_owned())
}
