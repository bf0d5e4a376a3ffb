//! Rotation of tenant key and master: what goes on meanwhile, what an interruption leaves, what is gone after.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::disallowed_methods,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason
    )
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use chaperone_connect::keys::{FileKeyVault, KeyPlace, KeyVaultUnusable};
use chaperone_core::ids::TenantId;
use chaperone_core::ports::{KeyVault, KeyVaultFailed};

fn clinic() -> TenantId {
    TenantId::new("clinic").unwrap()
}

async fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    FileKeyVault::create(&KeyPlace::at(dir.path()), &clinic())
        .await
        .unwrap();
    dir
}

fn open(dir: &Path) -> FileKeyVault {
    FileKeyVault::open(&KeyPlace::at(dir), &clinic()).unwrap()
}

const NAMES: [&str; 5] = [
    "clinical/pat_a",
    "clinical/pat_b",
    "derived/pat_a",
    "token/tenant",
    "index/tokens",
];

/// The plain keys, for comparing: a rotation must change none.
async fn keys_of(vault: &FileKeyVault) -> Vec<[u8; 32]> {
    let mut keys = Vec::new();
    for name in NAMES {
        keys.push(*vault.data_key(&clinic(), name).await.unwrap());
    }
    keys.push(*vault.signing_seed(&clinic()).await.unwrap());
    keys
}

/// Every version that a key file names.
fn versions(dir: &Path) -> BTreeMap<u32, usize> {
    let home = dir.join("clinic");
    let mut count = BTreeMap::new();
    let keys = fs::read_dir(home.join("keys")).unwrap();
    let keys = keys.map(|entry| entry.unwrap().path());
    for path in keys.chain([home.join("signing.key")]) {
        if path.extension().is_some_and(|it| it == "key") {
            let stored = fs::read(&path).unwrap();
            let version = match &stored[..4] {
                b"CWK1" => 0,
                _ => u32::from_be_bytes(stored[4..8].try_into().unwrap()),
            };
            *count.entry(version).or_default() += 1;
        }
    }
    count
}

async fn rotate(vault: &FileKeyVault) -> Vec<u32> {
    let mut rotation = vault.rotate_tenant_key(&clinic()).await.unwrap();
    while rotation.step(2).await.unwrap().left > 0 {}
    rotation.finish().await.unwrap()
}

async fn change_master(vault: &FileKeyVault) -> String {
    let (change, escrow) = vault.change_master(&clinic()).await.unwrap();
    let escrow = escrow.unwrap().expose().to_owned();
    change.finish().await.unwrap();
    escrow
}

#[tokio::test]
async fn a_rotation_changes_what_wraps_and_no_key() {
    let dir = folder().await;
    let vault = open(dir.path());
    let before = keys_of(&vault).await;
    assert_eq!(versions(dir.path()), BTreeMap::from([(1, 6)]));
    let old = fs::read(dir.path().join("clinic/tenant-000001.key")).unwrap();
    let backup = copy_of(dir.path());

    assert_eq!(rotate(&vault).await, [1]);
    assert_eq!(versions(dir.path()), BTreeMap::from([(2, 6)]));
    assert!(!dir.path().join("clinic/tenant-000001.key").exists());
    for vault in [&vault, &open(dir.path())] {
        assert_eq!(keys_of(vault).await, before);
        assert_eq!(
            vault.data_key(&clinic(), NAMES[0]).await.unwrap().version(),
            2
        );
        assert_eq!(vault.check(&clinic()).await.unwrap().keys, 5);
    }
    let status = vault.status(&clinic()).await.unwrap();
    assert_eq!(status.versions.len(), 1);
    assert_eq!(
        (status.newest().unwrap().version, status.is_rotating),
        (2, false)
    );
    assert_eq!(status.retired[0].key, "tenant-000001");
    // Again: another version each time.
    assert_eq!(rotate(&vault).await, [2]);
    assert_eq!(keys_of(&vault).await, before);

    // A key file of the backup does not open in the folder of today: its version is gone.
    let file = fs::read_dir(backup.path().join("clinic/keys"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .file_name();
    let place = |home: &Path| home.join("clinic/keys").join(&file);
    fs::copy(place(backup.path()), place(dir.path())).unwrap();
    assert!(matches!(
        open(dir.path()).check(&clinic()).await,
        Err(KeyVaultUnusable::Damaged { .. })
    ));
    // Nor does the old version itself, once the master that wrapped it is gone too.
    change_master(&vault).await;
    fs::write(dir.path().join("clinic/tenant-000001.key"), old).unwrap();
    assert!(matches!(
        open(dir.path()).check(&clinic()).await,
        Err(KeyVaultUnusable::Kms(_))
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rotation_stops_no_node_from_reading_or_making_keys() {
    let dir = folder().await;
    let other = open(dir.path());
    let before = keys_of(&other).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    // Nodes that keep nothing in memory, so that every call meets the files as they are.
    let nodes: Vec<_> = (0..3)
        .map(|node| {
            let (dir, before, stopped) = (dir.path().to_owned(), before.clone(), stopped.clone());
            tokio::spawn(async move {
                let mut made = Vec::new();
                let mut round = 0;
                while !*stopped.borrow() || round < 3 {
                    let mut place = KeyPlace::at(&dir);
                    place.cached_s = 0;
                    let vault = FileKeyVault::open(&place, &clinic()).unwrap();
                    assert_eq!(keys_of(&vault).await, before);
                    let name = format!("clinical/new_{node}_{round}");
                    let key = *vault.data_key(&clinic(), &name).await.unwrap();
                    made.push((name, key));
                    round += 1;
                }
                made
            })
        })
        .collect();
    let rotating = open(dir.path());
    for _ in 0..4 {
        rotate(&rotating).await;
        change_master(&rotating).await;
    }
    stop.send(true).unwrap();
    let mut made = 0;
    for node in nodes {
        for (name, key) in node.await.unwrap() {
            let found = open(dir.path()).existing_key(&clinic(), &name).await;
            assert_eq!(*found.unwrap(), key, "{name}");
            made += 1;
        }
    }
    assert_eq!(rotating.check(&clinic()).await.unwrap().keys, 5 + made);
    // Whoever still has the old keys in memory goes on too.
    assert_eq!(keys_of(&other).await, before);
}

#[tokio::test]
async fn an_interrupted_rotation_goes_on_where_it_stopped() {
    // Interrupted: after the new version, in the middle, before the end.
    for steps in [0, 2, 5] {
        let dir = folder().await;
        let before = keys_of(&open(dir.path())).await;
        {
            let vault = open(dir.path());
            let mut rotation = vault.rotate_tenant_key(&clinic()).await.unwrap();
            if steps > 0 {
                assert_eq!(rotation.step(steps).await.unwrap().rewrapped, steps as u64);
            }
        }
        // Left behind by a writer that was cut short.
        fs::write(dir.path().join("clinic/keys/.0123.new"), "CWK2 half").unwrap();
        let vault = open(dir.path());
        assert!(vault.is_rotating(&clinic()).await.unwrap());
        assert!(vault.status(&clinic()).await.unwrap().is_rotating);
        assert_eq!(keys_of(&vault).await, before);
        assert_eq!(vault.check(&clinic()).await.unwrap().keys, 5);
        // Taken up again, and not a third version.
        assert_eq!(rotate(&vault).await, [1]);
        assert_eq!(versions(dir.path()), BTreeMap::from([(2, 6)]));
        assert_eq!(keys_of(&open(dir.path())).await, before);
        assert!(!vault.is_rotating(&clinic()).await.unwrap());
    }
}

#[tokio::test]
async fn nothing_is_retired_while_it_is_needed() {
    let dir = folder().await;
    let vault = open(dir.path());
    let before = keys_of(&vault).await;
    let rotation = vault.rotate_tenant_key(&clinic()).await.unwrap();
    assert!(matches!(
        rotation.finish().await,
        Err(KeyVaultUnusable::NotRewrapped { left: 5 })
    ));
    assert_eq!(keys_of(&open(dir.path())).await, before);
    // A second rotation waits for the first.
    let first = vault.rotate_tenant_key(&clinic()).await.unwrap();
    for busy in [
        open(dir.path()).rotate_tenant_key(&clinic()).await.err(),
        open(dir.path()).change_master(&clinic()).await.err(),
    ] {
        assert!(matches!(busy, Some(KeyVaultUnusable::Rotating { .. })));
    }
    drop(first);
    // A damaged key stops the rotation and is named; the old version stays.
    let keys = dir.path().join("clinic/keys");
    let file = key_files(&keys)[0].clone();
    let sound = fs::read(&file).unwrap();
    fs::write(&file, b"CWK2 nonsense").unwrap();
    let mut rotation = vault.rotate_tenant_key(&clinic()).await.unwrap();
    assert!(matches!(
        rotation.step(10).await,
        Err(KeyVaultUnusable::Damaged { path }) if path == file
    ));
    drop(rotation);
    fs::write(&file, sound).unwrap();
    assert_eq!(rotate(&vault).await, [1]);
    assert_eq!(keys_of(&open(dir.path())).await, before);
}

#[tokio::test]
async fn a_destroyed_key_is_not_wrapped_anew() {
    let dir = folder().await;
    let vault = open(dir.path());
    keys_of(&vault).await;
    let mut rotation = vault.rotate_tenant_key(&clinic()).await.unwrap();
    // Destroyed while the rotation is under way; and one whose file was left behind by a cut.
    open(dir.path()).destroy(&clinic(), NAMES[0]).await.unwrap();
    let cut = key_files(&dir.path().join("clinic/keys"))[0].clone();
    fs::write(cut.with_extension("gone"), "").unwrap();
    assert_eq!(rotation.step(10).await.unwrap().rewrapped, 3);
    rotation.finish().await.unwrap();
    assert!(!cut.exists());
    let fresh = open(dir.path());
    assert!(matches!(
        fresh.existing_key(&clinic(), NAMES[0]).await,
        Err(KeyVaultFailed::Destroyed)
    ));
    let check = fresh.check(&clinic()).await.unwrap();
    assert_eq!((check.keys, check.destroyed), (3, 2));
}

#[tokio::test]
async fn a_changed_master_ends_the_old_escrow_text() {
    let dir = tempfile::tempdir().unwrap();
    let place = KeyPlace::at(dir.path());
    let first = FileKeyVault::create(&place, &clinic()).await.unwrap();
    let first = first.unwrap().expose().to_owned();
    let vault = open(dir.path());
    let before = keys_of(&vault).await;
    let old = fs::read(dir.path().join("clinic/master.key")).unwrap();

    // Interrupted after the next master was made: both open, and its escrow text is shown again.
    let (change, shown) = vault.change_master(&clinic()).await.unwrap();
    drop(change);
    assert!(vault.status(&clinic()).await.unwrap().is_changing_master);
    assert_eq!(keys_of(&open(dir.path())).await, before);
    let second = change_master(&open(dir.path())).await;
    assert_eq!(second, shown.unwrap().expose());
    assert_ne!(second, first);

    let home = dir.path().join("clinic");
    assert!(!home.join("master.next.key").exists());
    assert_ne!(fs::read(home.join("master.key")).unwrap(), old);
    for vault in [&vault, &open(dir.path())] {
        assert_eq!(keys_of(vault).await, before);
        let status = vault.status(&clinic()).await.unwrap();
        assert!(status.retired[0].key.starts_with("master-"));
        assert!(!status.is_changing_master);
    }
    // The old text opens nothing any more, the new one does.
    fs::remove_file(home.join("master.key")).unwrap();
    FileKeyVault::restore_from_escrow(&place, &clinic(), &first).unwrap();
    assert!(open(dir.path()).check(&clinic()).await.is_err());
    fs::remove_file(home.join("master.key")).unwrap();
    FileKeyVault::restore_from_escrow(&place, &clinic(), &second).unwrap();
    assert_eq!(keys_of(&open(dir.path())).await, before);
}

#[tokio::test]
async fn a_version_cannot_be_moved_renamed_or_redated() {
    let dir = folder().await;
    let vault = open(dir.path());
    keys_of(&vault).await;
    let path = dir.path().join("clinic/tenant-000001.key");
    let sound = fs::read_to_string(&path).unwrap();
    let made = sound.split("\"made\":\"").nth(1).unwrap();
    let made = made.split('"').next().unwrap();
    for changed in [
        sound.replacen(made, "2099-01-01T00:00:00Z", 1),
        sound.replacen("\"version\":1", "\"version\":2", 1),
        sound.replacen("\"kms_key\":\"master-", "\"kms_key\":\"master-0", 1),
        sound.replacen("\"format\":1", "\"format\":2", 1),
        sound.replacen("{", "{\"more\":1,", 1),
        "{}".to_owned(),
    ] {
        assert_ne!(changed, sound);
        fs::write(&path, changed).unwrap();
        let vault = FileKeyVault::open(&KeyPlace::at(dir.path()), &clinic());
        let refused = match vault {
            Ok(vault) => vault.check(&clinic()).await.is_err(),
            Err(_) => true,
        };
        assert!(refused);
    }
    fs::write(&path, sound).unwrap();
    open(dir.path()).check(&clinic()).await.unwrap();
}

/// Written by the code before there were tenant keys.
mod first_version {
    pub(super) const MASTER: &str =
        "c7b2027934c7e84dfd500327208d100f35a22ee22eb14cb4c49a0798ca8e4f0f";
    /// Name, wrapped bytes, key.
    pub(super) const KEYS: [(&str, &str, &str); 3] = [
        (
            "signing-seed",
            "43574b319e16639f5f21bb2cf13431e179cb0d7dba233eeb99669388f8b8d9c49a7c1f330e264d80c1eaaaebb7c89ae5ce75ab99e23ae47f6db6ad31a819d3e4",
            "ab3cd6bd52364155ad8aaff0a8e6f327a6f2e54dd0925c8824a70255e68cd27f",
        ),
        (
            "token/tenant",
            "43574b3183bc05280536e7b94668f5397d87434f32857d0e84b7d1fbbb2d4a46dd2f71798e92f9f40ad74c4ea4058fc30a987a2c442d7476bdb7b30d0218ccbd",
            "28fdc7b18f5c06153c5267ed1cedcba1e7d59848306b8b2cfd870c9dffd601ec",
        ),
        (
            "operational/tenant",
            "43574b31825e905da9ef00c571c433c4058bb2bd5ff390c5feeb4e323d904283fef2a77822a9afae7a885e801cb9ab4aadf7ee36389c389c815ef80ee6fc5eef",
            "d4564de5c6eb737cd1350504e53caea1d4e5bdb7c6b8bfd6834578aab0dd0128",
        ),
    ];
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

#[tokio::test]
async fn a_folder_of_the_first_version_opens_and_rotates() {
    let dir = tempfile::tempdir().unwrap();
    let demo = TenantId::new("demo").unwrap();
    let home = dir.path().join("demo");
    fs::create_dir_all(home.join("keys")).unwrap();
    let put = |path: PathBuf, content: &str| {
        fs::write(&path, hex(content)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    put(home.join("master.key"), first_version::MASTER);
    for (name, wrapped, _) in first_version::KEYS {
        let digest = chaperone_core::ports::key_digest(name);
        match name {
            "signing-seed" => put(home.join("signing.key"), wrapped),
            _ => put(home.join(format!("keys/{digest}.key")), wrapped),
        }
    }
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();

    let place = KeyPlace::at(dir.path());
    let check = async |vault: &FileKeyVault, version: u32| {
        for (name, _, key) in first_version::KEYS {
            let found = match name {
                "signing-seed" => vault.signing_seed(&demo).await.unwrap(),
                _ => vault.existing_key(&demo, name).await.unwrap(),
            };
            assert_eq!(found.as_slice(), hex(key), "{name}");
            assert_eq!(found.version(), version);
        }
    };
    let vault = FileKeyVault::open(&place, &demo).unwrap();
    check(&vault, 0).await;
    // It goes on as it was, new keys included, until somebody rotates.
    let made = vault.data_key(&demo, "clinical/pat_new").await.unwrap();
    assert_eq!(
        (made.version(), vault.check(&demo).await.unwrap().keys),
        (0, 3)
    );
    assert_eq!(vault.status(&demo).await.unwrap().versions[0].version, 0);
    assert!(matches!(
        vault.change_master(&demo).await,
        Err(KeyVaultUnusable::NotRewrapped { left: 4 })
    ));
    // Interrupted on the way as well.
    let mut rotation = vault.rotate_tenant_key(&demo).await.unwrap();
    assert_eq!((rotation.from(), rotation.to()), (0, 1));
    rotation.step(1).await.unwrap();
    drop(rotation);
    let vault = FileKeyVault::open(&place, &demo).unwrap();
    assert!(vault.is_rotating(&demo).await.unwrap());
    assert_eq!(vault.check(&demo).await.unwrap().keys, 3);
    let mut rotation = vault.rotate_tenant_key(&demo).await.unwrap();
    assert_eq!((rotation.from(), rotation.to()), (0, 1));
    rotation.step(10).await.unwrap();
    assert_eq!(rotation.finish().await.unwrap(), Vec::<u32>::new());
    let vault = FileKeyVault::open(&place, &demo).unwrap();
    check(&vault, 1).await;
    let (change, _) = vault.change_master(&demo).await.unwrap();
    change.finish().await.unwrap();
    check(&FileKeyVault::open(&place, &demo).unwrap(), 1).await;
}

fn key_files(keys: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(keys)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "key"))
        .collect();
    files.sort();
    files
}

fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_into(dir, copy.path());
    copy
}

fn copy_into(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_into(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_destroyed_key_does_not_come_back_with_an_older_folder() {
    let home = tempfile::tempdir().unwrap();
    let mut place = KeyPlace::at(&home.path().join("keys"));
    place.tombstones = home.path().join("tombstones");
    FileKeyVault::create(&place, &clinic()).await.unwrap();
    let vault = FileKeyVault::open(&place, &clinic()).unwrap();
    let before = keys_of(&vault).await;
    let backup = copy_of(&place.dir);
    vault.destroy(&clinic(), NAMES[0]).await.unwrap();
    let destroyed = vault.destroyed(&clinic()).await.unwrap();
    assert_eq!(destroyed.keys[0].version, Some(1));
    assert!(destroyed.keys[0].at.is_some() && destroyed.came_back.is_empty());

    // The older folder is put back as a whole.
    let restore = || {
        fs::remove_dir_all(&place.dir).unwrap();
        copy_into(backup.path(), &place.dir);
        FileKeyVault::open(&place, &clinic()).unwrap()
    };
    let vault = restore();
    assert!(matches!(
        vault.existing_key(&clinic(), NAMES[0]).await,
        Err(KeyVaultFailed::Destroyed)
    ));
    let again = vault.destroyed(&clinic()).await.unwrap();
    assert_eq!(again.keys, destroyed.keys);
    assert_eq!(again.came_back, [destroyed.keys[0].key]);
    assert_eq!(vault.check(&clinic()).await.unwrap().keys, 4);
    assert!(
        vault
            .destroyed(&clinic())
            .await
            .unwrap()
            .came_back
            .is_empty()
    );

    // The folder of tombstones is lost instead: those beside the keys stand, and raise it again.
    fs::remove_dir_all(&place.tombstones).unwrap();
    let vault = FileKeyVault::open(&place, &clinic()).unwrap();
    assert_eq!(
        vault.destroyed(&clinic()).await.unwrap().keys,
        destroyed.keys
    );
    let vault = restore();
    assert_eq!(vault.destroyed(&clinic()).await.unwrap().came_back.len(), 1);

    // Both older than the destruction: only whoever remembers it can say so.
    fs::remove_dir_all(&place.tombstones).unwrap();
    let vault = restore();
    assert_eq!(keys_of(&vault).await, before);
    assert!(vault.destroyed(&clinic()).await.unwrap().keys.is_empty());
    let key = chaperone_core::ports::key_digest(NAMES[0]);
    vault.destroy_again(&clinic(), &key).await.unwrap();
    assert!(matches!(
        vault.data_key(&clinic(), NAMES[0]).await,
        Err(KeyVaultFailed::Destroyed)
    ));
    assert_eq!(vault.check(&clinic()).await.unwrap().keys, 4);
}
