//! Builds the page and embeds it, entirely inside `OUT_DIR`.
//!
//! `npm ci` runs only when the lock file changed and `npm run build` only when a source did. Without npm, without the
//! page's sources, or with `WATCHFOLD_PAGE=plain`, a plain page is embedded that says how to get the rest.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

type Failure = Box<dyn std::error::Error>;

/// What the page is built from; a folder counts with everything in it.
const SOURCES: [&str; 9] = [
    ".npmrc",
    "index.html",
    "package.json",
    "package-lock.json",
    "public",
    "src",
    "svelte.config.js",
    "tsconfig.json",
    "vite.config.ts",
];

/// Compresses each file given as argument; where that saves nothing, no `.gz` appears.
const GZIP: &str = "const fs=require('fs'),z=require('zlib');for(const f of process.argv.slice(1)){\
const b=fs.readFileSync(f),g=z.gzipSync(b,{level:9});if(g.length<b.length*0.9)fs.writeFileSync(f+'.gz',g)}";

fn main() -> Result<(), Failure> {
    println!("cargo:rerun-if-env-changed=WATCHFOLD_PAGE");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/plain.html");
    let page = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("page");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for source in SOURCES
        .iter()
        .map(|name| page.join(name))
        .filter(|path| path.exists())
    {
        println!("cargo:rerun-if-changed={}", source.display());
    }
    let plain_page = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?)
        .join("src")
        .join("plain.html");
    let files = match why_plain(&page) {
        Some(reason) => {
            println!("cargo:warning=a plain page is embedded instead of the dashboard: {reason}");
            BTreeMap::from([("/index.html".to_owned(), plain_page)])
        }
        None => build(&page, &out.join("page"))?,
    };
    fs::write(out.join("assets.rs"), table(&files)?)?;
    Ok(())
}

fn why_plain(page: &Path) -> Option<String> {
    if env::var("WATCHFOLD_PAGE").is_ok_and(|wanted| wanted == "plain") {
        return Some("WATCHFOLD_PAGE=plain is set".into());
    }
    if !page.join("package.json").exists() || !page.join("package-lock.json").exists() {
        return Some("its sources are not here".into());
    }
    if !npm()
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        return Some("npm was not found; install Node.js 20 or newer and build again".into());
    }
    None
}

/// Builds a copy of `page` in `work` and gives its files by the path that they are requested by.
fn build(page: &Path, work: &Path) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let mut sources = BTreeMap::new();
    for name in SOURCES {
        collect(page, &page.join(name), &mut sources)?;
    }
    let sources_hash = hash_of(sources.values())?;
    let lock_hash = hash_of([page.join("package-lock.json"), page.join("package.json")].iter())?;
    let dist = work.join("dist");
    let built = work.join(".built");
    if fs::read_to_string(&built).ok().as_deref() != Some(&*sources_hash) {
        copy(&sources, work)?;
        let installed = work.join(".installed");
        if fs::read_to_string(&installed).ok().as_deref() != Some(&*lock_hash) {
            run(
                work,
                &[
                    "ci",
                    "--ignore-scripts",
                    "--no-audit",
                    "--no-fund",
                    "--prefer-offline",
                ],
            )?;
            fs::write(&installed, &lock_hash)?;
        }
        run(work, &["run", "build"])?;
        compress(&dist)?;
        fs::write(&built, &sources_hash)?;
    }
    let mut files = BTreeMap::new();
    collect(&dist, &dist, &mut files)?;
    if !files.contains_key("index.html") {
        return Err(format!("the page's build left no index.html in {}", dist.display()).into());
    }
    Ok(files
        .into_iter()
        .map(|(name, path)| (format!("/{name}"), path))
        .collect())
}

/// Replaces the earlier copy, but keeps the installed packages.
fn copy(sources: &BTreeMap<String, PathBuf>, work: &Path) -> Result<(), Failure> {
    for name in SOURCES {
        let old = work.join(name);
        if old.is_dir() {
            fs::remove_dir_all(&old)?;
        } else if old.exists() {
            fs::remove_file(&old)?;
        }
    }
    for (name, path) in sources {
        let target = work.join(name);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(path, &target)?;
    }
    Ok(())
}

fn run(work: &Path, arguments: &[&str]) -> Result<(), Failure> {
    let command = format!("npm {}", arguments.join(" "));
    let output = npm()
        .args(arguments)
        .current_dir(work)
        .output()
        .map_err(|error| format!("{command}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    Err(format!(
        "the page could not be built: `{command}` failed ({}).\n{text}\nTo go on without it, build with WATCHFOLD_PAGE=plain; \
         the API works the same, and a plain page says how to get the rest.",
        output.status
    )
    .into())
}

fn compress(dist: &Path) -> Result<(), Failure> {
    let mut files = BTreeMap::new();
    collect(dist, dist, &mut files)?;
    let status = Command::new("node")
        .args(["-e", GZIP])
        .args(files.values())
        .status();
    if !status.is_ok_and(|status| status.success()) {
        println!("cargo:warning=the page's files are embedded uncompressed: node could not be run");
    }
    Ok(())
}

fn npm() -> Command {
    Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" })
}

/// Files at and below `path`, by their path below `root` with slashes.
fn collect(root: &Path, path: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), Failure> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(root, &entry?.path(), files)?;
        }
    } else if path.is_file() {
        let below = path.strip_prefix(root)?;
        let parts: Vec<_> = below
            .components()
            .map(|part| part.as_os_str().to_string_lossy())
            .collect();
        files.insert(parts.join("/"), path.to_owned());
    }
    Ok(())
}

fn hash_of<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Result<String, Failure> {
    let mut hash = DefaultHasher::new();
    for file in files {
        file.file_name().hash(&mut hash);
        fs::read(file)?.hash(&mut hash);
    }
    Ok(format!("{:016x}", hash.finish()))
}

/// The Rust table of the files, without the `.gz` twins, which stand beside theirs.
fn table(files: &BTreeMap<String, PathBuf>) -> Result<String, Failure> {
    let mut table = String::from("static ASSETS: &[Asset] = &[\n");
    for (name, path) in files.iter().filter(|(name, _)| !name.ends_with(".gz")) {
        let gzip = match files.get(&format!("{name}.gz")) {
            Some(gzip) => format!("Some(include_bytes!({gzip:?}))"),
            None => "None".to_owned(),
        };
        writeln!(
            table,
            "    Asset {{ path: {name:?}, content_type: {:?}, etag: {:?}, immutable: {}, body: include_bytes!({path:?}), gzip: {gzip} }},",
            content_type(name),
            format!("\"{}\"", hash_of([path.clone()].iter())?),
            name.starts_with("/assets/"),
        )?;
    }
    table.push_str("];\n");
    Ok(table)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "json" | "webmanifest" => "application/json",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
