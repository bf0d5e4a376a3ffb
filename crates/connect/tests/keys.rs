//! The key folder: what survives, what is refused, what is gone for ever.

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

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chaperone_connect::keys::{EscrowInvalid, FileKeyVault, KeyPlace, KeyVaultUnusable};
use chaperone_core::Timestamp;
use chaperone_core::ids::TenantId;
use chaperone_core::ports::{Clock, KeyVault, KeyVaultFailed};

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

/// A folder with the keys of tenant `clinic`.
async fn folder() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let secret = create(dir.path(), &tenant("clinic")).await.unwrap();
    (dir, secret)
}

async fn create(dir: &Path, tenant: &TenantId) -> Result<String, KeyVaultUnusable> {
    let secret = FileKeyVault::create(&KeyPlace::at(dir), tenant).await?;
    Ok(secret.unwrap().expose().to_owned())
}

fn open(dir: &Path) -> FileKeyVault {
    FileKeyVault::open(&KeyPlace::at(dir), &tenant("clinic")).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_key_stays_the_same_and_is_bound_to_tenant_and_name() {
    let (dir, _) = folder().await;
    create(dir.path(), &tenant("other")).await.unwrap();
    let clock = Arc::new(HandClock(AtomicI64::new(0)));
    let both = [tenant("clinic"), tenant("other")];
    let vault = FileKeyVault::open_all(&KeyPlace::at(dir.path()), &both, clock).unwrap();
    let clinic = &both[0];
    let first = vault.data_key(clinic, "clinical/a").await.unwrap();
    assert_eq!(vault.data_key(clinic, "clinical/a").await.unwrap(), first);
    assert_eq!(
        vault.existing_key(clinic, "clinical/a").await.unwrap(),
        first
    );
    assert_ne!(vault.data_key(clinic, "clinical/b").await.unwrap(), first);
    assert_ne!(vault.data_key(&both[1], "clinical/a").await.unwrap(), first);
    // After a restart as well.
    let again = open(dir.path());
    assert_eq!(again.data_key(clinic, "clinical/a").await.unwrap(), first);
    assert_eq!(
        again.signing_seed(clinic).await.unwrap(),
        vault.signing_seed(clinic).await.unwrap()
    );
    // A tenant that was not opened has no keys here.
    assert!(matches!(
        again.data_key(&both[1], "clinical/a").await,
        Err(KeyVaultFailed::Refused(_))
    ));
}

#[tokio::test]
async fn a_key_that_must_exist_is_not_made() {
    let (dir, _) = folder().await;
    let vault = open(dir.path());
    let clinic = tenant("clinic");
    for _ in 0..2 {
        assert!(matches!(
            vault.existing_key(&clinic, "clinical/a").await,
            Err(KeyVaultFailed::Refused(_))
        ));
    }
    for bad in ["", &"x".repeat(300)] {
        assert!(vault.data_key(&clinic, bad).await.is_err());
    }
    assert_eq!(vault.check(&clinic).await.unwrap().keys, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_for_a_new_name_get_one_key() {
    let (dir, _) = folder().await;
    // Two vaults stand for two processes.
    let vaults = [open(dir.path()), open(dir.path())];
    let clinic = tenant("clinic");
    let calls: Vec<_> = (0..40)
        .map(|index| {
            let (vault, clinic) = (vaults[index % 2].clone(), clinic.clone());
            tokio::spawn(async move { vault.data_key(&clinic, "clinical/new").await.unwrap() })
        })
        .collect();
    let mut keys = Vec::new();
    for call in calls {
        keys.push(call.await.unwrap());
    }
    assert!(keys.iter().all(|key| *key == keys[0]));
    assert_eq!(vaults[0].check(&clinic).await.unwrap().keys, 1);
}

#[tokio::test]
async fn a_destroyed_key_never_comes_back() {
    let (dir, _) = folder().await;
    let vault = open(dir.path());
    let clinic = tenant("clinic");
    let kept = vault.data_key(&clinic, "clinical/kept").await.unwrap();
    vault.data_key(&clinic, "clinical/gone").await.unwrap();
    vault.destroy(&clinic, "clinical/gone").await.unwrap();
    // Also a name that never had a key, and one that is destroyed already.
    vault.destroy(&clinic, "clinical/never").await.unwrap();
    vault.destroy(&clinic, "clinical/gone").await.unwrap();
    for vault in [vault, open(dir.path())] {
        for name in ["clinical/gone", "clinical/never"] {
            assert!(matches!(
                vault.data_key(&clinic, name).await,
                Err(KeyVaultFailed::Destroyed)
            ));
            assert!(matches!(
                vault.existing_key(&clinic, name).await,
                Err(KeyVaultFailed::Destroyed)
            ));
        }
        assert_eq!(
            vault.data_key(&clinic, "clinical/kept").await.unwrap(),
            kept
        );
        let check = vault.check(&clinic).await.unwrap();
        assert_eq!((check.keys, check.destroyed), (1, 2));
    }
    // The name is in no file name, and the key's file is gone.
    let names: Vec<String> = fs::read_dir(dir.path().join("clinic/keys"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 3);
    assert!(names.iter().all(|name| !name.contains("clinical")));
}

#[tokio::test]
async fn a_destruction_cut_short_is_a_destruction() {
    let (dir, _) = folder().await;
    let vault = open(dir.path());
    let clinic = tenant("clinic");
    vault.data_key(&clinic, "clinical/a").await.unwrap();
    let keys = dir.path().join("clinic/keys");
    let file = fs::read_dir(&keys).unwrap().next().unwrap().unwrap().path();
    // The power fails after the tombstone.
    fs::write(file.with_extension("gone"), "").unwrap();
    let vault = open(dir.path());
    assert!(matches!(
        vault.data_key(&clinic, "clinical/a").await,
        Err(KeyVaultFailed::Destroyed)
    ));
    vault.check(&clinic).await.unwrap();
    assert!(!file.exists());
}

struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

#[tokio::test]
async fn a_key_is_kept_in_memory_for_a_bounded_time() {
    let (dir, _) = folder().await;
    let clinic = tenant("clinic");
    let clock = Arc::new(HandClock(AtomicI64::new(1_000)));
    let hand: Arc<dyn Clock> = Arc::<HandClock>::clone(&clock);
    let vault = FileKeyVault::open_all(
        &KeyPlace::at(dir.path()),
        std::slice::from_ref(&clinic),
        hand,
    )
    .unwrap();
    vault.data_key(&clinic, "clinical/a").await.unwrap();
    // Another process destroys it.
    open(dir.path())
        .destroy(&clinic, "clinical/a")
        .await
        .unwrap();
    clock.0.fetch_add(899, Ordering::SeqCst);
    assert!(vault.data_key(&clinic, "clinical/a").await.is_ok());
    clock.0.fetch_add(2, Ordering::SeqCst);
    assert!(matches!(
        vault.data_key(&clinic, "clinical/a").await,
        Err(KeyVaultFailed::Destroyed)
    ));
}

#[tokio::test]
async fn first_run_and_restoring_are_the_only_ways_to_a_master_key() {
    let dir = tempfile::tempdir().unwrap();
    let clinic = tenant("clinic");
    let Err(none @ KeyVaultUnusable::NoMasterKey { .. }) =
        FileKeyVault::open(&KeyPlace::at(dir.path()), &clinic)
    else {
        panic!();
    };
    assert!(none.to_string().contains("escrow"));
    assert!(!FileKeyVault::exists(dir.path(), &clinic));
    let secret = create(dir.path(), &clinic).await.unwrap();
    assert!(FileKeyVault::exists(dir.path(), &clinic));
    assert!(matches!(
        create(dir.path(), &clinic).await,
        Err(KeyVaultUnusable::AlreadyThere { .. })
    ));
    let vault = open(dir.path());
    let key = vault.data_key(&clinic, "clinical/a").await.unwrap();
    let seed = vault.signing_seed(&clinic).await.unwrap();

    // The master key is lost; what the folder's backup holds is there.
    let place = KeyPlace::at(dir.path());
    let restore = |text: &str| FileKeyVault::restore_from_escrow(&place, &clinic, text);
    fs::remove_file(dir.path().join("clinic/master.key")).unwrap();
    assert!(matches!(
        restore("chaperone-escrow-1 clinic abcd"),
        Err(KeyVaultUnusable::Escrow(EscrowInvalid::Form))
    ));
    restore(&secret).unwrap();
    // Again is no error; another key is.
    restore(&secret).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = create(elsewhere.path(), &clinic).await.unwrap();
    assert!(matches!(
        restore(&foreign),
        Err(KeyVaultUnusable::OtherKey { .. })
    ));
    let vault = open(dir.path());
    assert_eq!(
        vault.existing_key(&clinic, "clinical/a").await.unwrap(),
        key
    );
    assert_eq!(vault.signing_seed(&clinic).await.unwrap(), seed);
}

#[tokio::test]
async fn what_others_can_reach_is_not_used() {
    let (dir, _) = folder().await;
    let clinic = tenant("clinic");
    let home = dir.path().join("clinic");
    let master = home.join("master.key");
    assert_eq!((mode(&home), mode(&master)), (0o700, 0o600));
    open(dir.path())
        .data_key(&clinic, "clinical/a")
        .await
        .unwrap();
    for entry in fs::read_dir(home.join("keys")).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    for (path, open_mode, closed_mode) in [(&master, 0o640, 0o600), (&home, 0o755, 0o700)] {
        fs::set_permissions(path, fs::Permissions::from_mode(open_mode)).unwrap();
        let Err(refused @ KeyVaultUnusable::NotPrivate { .. }) =
            FileKeyVault::open(&KeyPlace::at(dir.path()), &clinic)
        else {
            panic!();
        };
        assert!(refused.to_string().contains("chmod"));
        fs::set_permissions(path, fs::Permissions::from_mode(closed_mode)).unwrap();
    }
    open(dir.path());
}

#[tokio::test]
async fn damage_is_named() {
    let (dir, _) = folder().await;
    let clinic = tenant("clinic");
    let vault = open(dir.path());
    vault.data_key(&clinic, "clinical/a").await.unwrap();
    vault.data_key(&clinic, "clinical/b").await.unwrap();
    let keys = dir.path().join("clinic/keys");
    let files: Vec<_> = fs::read_dir(&keys)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let sound = fs::read(&files[0]).unwrap();
    // The key of another name, put in its place, does not pass for it.
    fs::copy(&files[1], &files[0]).unwrap();
    assert!(matches!(
        vault.check(&clinic).await,
        Err(KeyVaultUnusable::Damaged { path }) if path == files[0]
    ));
    let mut flipped = sound.clone();
    flipped[20] ^= 1;
    fs::write(&files[0], flipped).unwrap();
    assert!(vault.check(&clinic).await.is_err());
    let fresh = open(dir.path());
    let mut failed = 0;
    for name in ["clinical/a", "clinical/b"] {
        failed += usize::from(fresh.data_key(&clinic, name).await.is_err());
    }
    assert_eq!(failed, 1);
    fs::write(&files[0], sound).unwrap();
    assert_eq!(vault.check(&clinic).await.unwrap().keys, 2);
}
