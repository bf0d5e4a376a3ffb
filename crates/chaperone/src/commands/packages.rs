//! `chaperone packages`: the conformance packages at hand, from files or from a registry.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use chaperone_connect::egress::Gate;
use chaperone_connect::package_registry::PackageRegistry;
use chaperone_fhir::catalogue::{Catalogue, version_order};
use chaperone_fhir::package::{LockAdded, Package, PackageId, version_satisfies};
use clap::Subcommand;
use serde_json::{Value, json};

use crate::bundle_files;
use crate::compose::{self, Basics};
use crate::config::Config;
use crate::demo::print_line;
use crate::package_store::{PACKAGE_BYTES_MAX, PackageStore, read_bounded, title};

/// Most packages that one `add` brings, dependencies included.
const ADDED_MAX: usize = 100;

/// Arguments of `packages`.
#[derive(Debug, clap::Args)]
pub(crate) struct PackagesArgs {
    /// Folder of packages, with its lock file. Unless it is given, the configuration file says where it is.
    #[arg(long, value_name = "DIR", global = true)]
    packages_dir: Option<PathBuf>,
    /// Configuration file, for the folder and the registry.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "chaperone.toml",
        global = true
    )]
    config: PathBuf,
    /// Print one JSON object.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: PackagesCommand,
}

#[derive(Debug, Subcommand)]
enum PackagesCommand {
    /// List the packages: name, version, SHA-256.
    List,
    /// Add packages and what they build on: .tgz files, or NAME#VERSION from the registry.
    Add {
        /// Address of a FHIR package registry; the configuration's `packages.registry` when absent.
        #[arg(long, value_name = "URL")]
        registry: Option<String>,
        /// Do not fetch what the packages build on.
        #[arg(long)]
        alone: bool,
        /// A .tgz file, NAME#VERSION, or NAME for the newest version.
        #[arg(value_name = "PACKAGE", required = true)]
        packages: Vec<String>,
    },
    /// Show what a package says of itself and what it defines.
    Show {
        /// NAME, NAME#VERSION or a .tgz file.
        #[arg(value_name = "PACKAGE")]
        package: String,
    },
}

/// Runs it.
pub(crate) fn run(args: PackagesArgs) -> anyhow::Result<ExitCode> {
    let config = configuration(&args)?;
    let dir = folder(&args, config.as_ref());
    let mut store = PackageStore::open(&dir)?;
    match args.command {
        PackagesCommand::List => list(&store, args.json),
        PackagesCommand::Add {
            registry,
            alone,
            packages,
        } => {
            let registry = registry
                .or_else(|| config.as_ref()?.packages.registry.clone())
                .map(|url| anyhow::Ok(PackageRegistry::new(&url, &gate(config.as_ref())?)?))
                .transpose()?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let adding = Adding {
                store: &mut store,
                registry: registry.as_ref(),
                alone,
                added: Vec::new(),
            };
            let added = runtime.block_on(adding.all(packages))?;
            if args.json {
                let added: Vec<Value> = added.iter().map(|(id, _)| described(id)).collect();
                print_line(&json!({ "added": added }).to_string());
            } else {
                for (id, how) in &added {
                    let how = match how {
                        LockAdded::New => "added",
                        LockAdded::Already => "there already",
                    };
                    print_line(&format!("{:<40} {}  {how}", title(id), id.sha256));
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        PackagesCommand::Show { package } => show(&store, &package, args.json),
    }
}

/// The configuration, where there is one.
fn configuration(args: &PackagesArgs) -> anyhow::Result<Option<Config>> {
    if args.config.is_file() {
        Config::read(&args.config).map(Some)
    } else {
        Ok(None)
    }
}

/// The folder of the packages.
fn folder(args: &PackagesArgs, config: Option<&Config>) -> PathBuf {
    args.packages_dir
        .clone()
        .or_else(|| Some(config?.packages.dir.clone()))
        .unwrap_or_else(|| PathBuf::from("packages"))
}

/// The gate of the bundle that is configured, or of the built-in one: a registry must be listed like everybody else.
fn gate(config: Option<&Config>) -> anyhow::Result<Gate> {
    let folder = config.map(|config| config.governance.as_path());
    let bundle = bundle_files::load(&bundle_files::read(folder)?)?;
    let public_url = config.map_or("", |config| &config.public_url);
    compose::gate(&bundle, public_url, &Basics::of_this_machine())
}

fn list(store: &PackageStore, json: bool) -> anyhow::Result<ExitCode> {
    let core = Catalogue::r4();
    let embedded = core.packages();
    if json {
        let mut all: Vec<Value> = embedded
            .iter()
            .map(|id| json!({"name": id.name, "version": id.version, "sha256": id.sha256, "embedded": true}))
            .collect();
        all.extend(store.lock().packages().map(
            |it| json!({"name": it.name, "version": it.version, "sha256": it.sha256, "embedded": false}),
        ));
        print_line(&json!({ "packages": all }).to_string());
        return Ok(ExitCode::SUCCESS);
    }
    for id in embedded {
        print_line(&format!("{:<40} {}  embedded", title(id), id.sha256));
    }
    for it in store.lock().packages() {
        print_line(&format!(
            "{:<40} {}",
            format!("{}#{}", it.name, it.version),
            it.sha256
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn show(store: &PackageStore, wanted: &str, json: bool) -> anyhow::Result<ExitCode> {
    let package = crate::package_store::read_wanted(wanted, store)?;
    let mut catalogue = Catalogue::new();
    catalogue.add_package(&package)?;
    let counts: Vec<(&str, usize)> = [
        "StructureDefinition",
        "ValueSet",
        "CodeSystem",
        "SearchParameter",
        "Questionnaire",
    ]
    .into_iter()
    .map(|name| (name, catalogue.resources(name).count()))
    .filter(|(_, count)| *count > 0)
    .collect();
    if json {
        let mut all = described(&package.id);
        if let Some(members) = all.as_object_mut() {
            members.insert("dependencies".to_owned(), json!(package.dependencies));
            let defines: serde_json::Map<String, Value> = counts
                .iter()
                .map(|(name, count)| ((*name).to_owned(), json!(count)))
                .collect();
            members.insert("defines".to_owned(), Value::Object(defines));
        }
        print_line(&all.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    let id = &package.id;
    print_line(&format!(
        "{}\nFHIR       {}\nlicence    {}\nSHA-256    {}",
        title(id),
        id.fhir_version,
        id.licence,
        id.sha256
    ));
    for (name, version) in &package.dependencies {
        print_line(&format!("builds on  {name}#{version}"));
    }
    for (name, count) in counts {
        print_line(&format!("defines    {count} {name}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn described(id: &PackageId) -> Value {
    json!({
        "name": id.name, "version": id.version, "fhir_version": id.fhir_version,
        "licence": id.licence, "sha256": id.sha256,
    })
}

/// One `add`.
struct Adding<'a> {
    store: &'a mut PackageStore,
    registry: Option<&'a PackageRegistry>,
    alone: bool,
    added: Vec<(PackageId, LockAdded)>,
}

impl Adding<'_> {
    async fn all(mut self, packages: Vec<String>) -> anyhow::Result<Vec<(PackageId, LockAdded)>> {
        let mut wanted = packages;
        wanted.reverse();
        while let Some(one) = wanted.pop() {
            if self.added.len() >= ADDED_MAX {
                bail!("more than {ADDED_MAX} packages build on each other; add them one by one");
            }
            let tgz = self.bytes(&one).await?;
            let dependencies = Package::read_definitions(&tgz)?.dependencies;
            let added = self.store.add(&tgz)?;
            self.added.push(added);
            if self.alone {
                continue;
            }
            for (name, version) in dependencies {
                if self.is_there(&name, &version) {
                    continue;
                }
                if self.registry.is_some() {
                    wanted.push(format!("{name}#{version}"));
                } else {
                    eprintln!(
                        "note: {one} builds on {name}#{version}, which is not there; without it, what it defines is not checked"
                    );
                }
            }
        }
        Ok(self.added)
    }

    fn is_there(&self, name: &str, version: &str) -> bool {
        let core = Catalogue::r4();
        let locked = self.store.lock().packages();
        core.packages()
            .iter()
            .map(|id| (id.name.as_str(), id.version.as_str()))
            .chain(locked.map(|it| (it.name, it.version)))
            .any(|(its_name, its)| its_name == name && version_satisfies(its, version))
    }

    async fn bytes(&self, wanted: &str) -> anyhow::Result<Vec<u8>> {
        let file = Path::new(wanted);
        if file.is_file() {
            return read_bounded(file, PACKAGE_BYTES_MAX);
        }
        let registry = self.registry.with_context(|| {
            format!(
                "`{wanted}` is not a file, and no registry is configured; give --registry URL or set `packages.registry`"
            )
        })?;
        let (name, asked) = wanted.split_once('#').unwrap_or((wanted, "latest"));
        let about = || format!("`{wanted}` cannot be fetched");
        let is_exact = !matches!(asked, "latest" | "current" | "dev" | "*")
            && !asked.split('.').any(|segment| segment == "x");
        let version = if is_exact {
            asked.to_owned()
        } else {
            let versions = registry.versions(name).await.with_context(about)?;
            versions
                .into_iter()
                .filter(|version| version_satisfies(version, asked))
                .max_by(|a, b| version_order(Some(a), Some(b)))
                .with_context(about)?
        };
        let tgz = registry.fetch(name, &version).await.with_context(about)?;
        let id = Package::read_definitions(&tgz).with_context(about)?.id;
        if id.name != name || id.version != version {
            bail!("the registry sent {} for {name}#{version}", title(&id));
        }
        Ok(tgz)
    }
}
