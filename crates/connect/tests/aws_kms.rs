//! Tenant keys under AWS KMS: against a service that fails on demand, and against moto where `scripts/with-moto`
//! put one up.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::disallowed_methods,
        clippy::print_stderr,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason
    )
)]

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chaperone_connect::clock::SystemClock;
use chaperone_connect::egress::Gate;
use chaperone_connect::keys::{
    AwsCredentialSource, AwsCredentials, AwsKms, AwsKmsConfig, FileKeyVault, KeyPlace,
    KeyVaultUnusable,
};
use chaperone_core::Timestamp;
use chaperone_core::ids::TenantId;
use chaperone_core::ports::{Clock, KeyVault, KeyVaultFailed, Kms, KmsFailed};
use serde_json::{Value, json};

fn clinic() -> TenantId {
    TenantId::new("clinic").unwrap()
}

struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

fn config(endpoint: &str, key: &str) -> AwsKmsConfig {
    AwsKmsConfig {
        key: key.to_owned(),
        previous_keys: Vec::new(),
        region: "us-east-1".to_owned(),
        endpoint: Some(endpoint.to_owned()),
        credentials: AwsCredentialSource::Given(AwsCredentials {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: "SECRETEXAMPLE".to_owned().into(),
            session_token: None,
        }),
    }
}

fn kms(config: AwsKmsConfig) -> Arc<dyn Kms> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let gate = Gate::to_this_machine(Arc::new(SystemClock));
    Arc::new(AwsKms::new(config, &gate, Arc::new(SystemClock)).unwrap())
}

fn place(dir: &Path, kms: Arc<dyn Kms>) -> KeyPlace {
    let mut place = KeyPlace::at(dir);
    place.kms = Some(kms);
    place
}

/// What the service is told to answer next, before it answers as it should.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<(StatusCode, String)>>,
    asked: Mutex<Vec<(String, Value)>>,
}

impl Script {
    fn refuse(&self, status: u16, code: &str, times: usize) {
        let status = StatusCode::from_u16(status).unwrap();
        let body = json!({ "__type": code, "message": "SECRETWORDS of the service" }).to_string();
        let mut answers = self.answers.lock().unwrap();
        answers.clear();
        answers.extend(std::iter::repeat_n((status, body), times));
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

/// A service that "encrypts" by writing key, context and plaintext one after the other.
async fn answer(
    State(script): State<Arc<Script>>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, String) {
    let target = headers["x-amz-target"].to_str().unwrap().to_owned();
    assert!(
        headers["authorization"]
            .to_str()
            .unwrap()
            .contains("/us-east-1/kms/aws4_request")
    );
    let asked: Value = serde_json::from_str(&body).unwrap();
    script
        .asked
        .lock()
        .unwrap()
        .push((target.clone(), asked.clone()));
    if let Some(refusal) = script.answers.lock().unwrap().pop_front() {
        return refusal;
    }
    let sealed =
        |plain: &Value| json!([asked["KeyId"], asked["EncryptionContext"], plain]).to_string();
    let good = |answer: Value| (StatusCode::OK, answer.to_string());
    match target.as_str() {
        "TrentService.Encrypt" => good(json!({
            "KeyId": asked["KeyId"],
            "CiphertextBlob": STANDARD.encode(sealed(&asked["Plaintext"])),
        })),
        "TrentService.Decrypt" => {
            let blob = STANDARD
                .decode(asked["CiphertextBlob"].as_str().unwrap())
                .unwrap();
            let parts: Value = serde_json::from_slice(&blob).unwrap_or_default();
            if parts[0] != asked["KeyId"] || parts[1] != asked["EncryptionContext"] {
                let body = json!({ "__type": "InvalidCiphertextException" }).to_string();
                return (StatusCode::BAD_REQUEST, body);
            }
            good(json!({ "KeyId": asked["KeyId"], "Plaintext": parts[2] }))
        }
        "TrentService.DescribeKey" => good(json!({
            "KeyMetadata": { "Arn": "arn:aws:kms:us-east-1:1:key/k", "KeyState": "Enabled" }
        })),
        _ => good(json!({ "KeyRotationEnabled": true })),
    }
}

async fn service() -> (String, Arc<Script>) {
    let script = Arc::new(Script::default());
    let app = Router::new().fallback(answer).with_state(script.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (format!("http://{address}"), script)
}

/// Everything that rests in a folder.
fn at_rest(dir: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(at_rest(&path));
        } else {
            all.extend(fs::read(path).unwrap());
        }
    }
    all
}

#[tokio::test]
async fn tenant_keys_rest_under_the_service_and_no_master_is_in_the_folder() {
    let (endpoint, script) = service().await;
    let dir = tempfile::tempdir().unwrap();
    let place = place(dir.path(), kms(config(&endpoint, "alias/chaperone")));
    let escrow = FileKeyVault::create(&place, &clinic()).await.unwrap();
    assert!(escrow.is_none() && !dir.path().join("clinic/master.key").exists());
    let vault = FileKeyVault::open(&place, &clinic()).unwrap();
    let key = vault.data_key(&clinic(), "clinical/pat_a").await.unwrap();
    // One question opens the tenant key; data keys need none.
    let asked = script.asked();
    for name in ["clinical/pat_b", "clinical/pat_c", "derived/pat_a"] {
        vault.data_key(&clinic(), name).await.unwrap();
    }
    assert_eq!(script.asked(), asked);
    // What the service is shown are our own identifiers.
    let (_, shown) = script.asked.lock().unwrap()[0].clone();
    assert_eq!(shown["EncryptionContext"]["chaperone:tenant"], "clinic");
    assert_eq!(shown["EncryptionContext"]["chaperone:tenant-key"], "1");
    // No key rests in clear.
    let rests = at_rest(dir.path());
    assert!(!rests.windows(32).any(|it| it == key.as_slice()));

    // A rotation, and a move to another key of the service: the old one only unwraps.
    let mut rotation = vault.rotate_tenant_key(&clinic()).await.unwrap();
    rotation.step(100).await.unwrap();
    rotation.finish().await.unwrap();
    let mut moved = config(&endpoint, "alias/next");
    let strange = self::place(dir.path(), kms(moved.clone()));
    let strange = FileKeyVault::open(&strange, &clinic()).unwrap();
    assert!(matches!(
        strange.check(&clinic()).await,
        Err(KeyVaultUnusable::Kms(KmsFailed::WrongKey { .. }))
    ));
    moved.previous_keys = vec!["alias/chaperone".to_owned()];
    let moved = self::place(dir.path(), kms(moved));
    let vault = FileKeyVault::open(&moved, &clinic()).unwrap();
    let (change, escrow) = vault.change_master(&clinic()).await.unwrap();
    assert!(escrow.is_none());
    assert_eq!(change.finish().await.unwrap(), ["alias/chaperone"]);
    let again = vault
        .existing_key(&clinic(), "clinical/pat_a")
        .await
        .unwrap();
    assert_eq!(*again, *key);
    assert_eq!(
        vault
            .status(&clinic())
            .await
            .unwrap()
            .newest()
            .unwrap()
            .service_key,
        "alias/next"
    );
    let standing = vault.service_standing(&clinic()).await.unwrap();
    assert_eq!(standing.renews_itself, Some(true));
}

#[tokio::test]
async fn a_folder_under_a_file_master_moves_to_the_service() {
    let (endpoint, _) = service().await;
    let dir = tempfile::tempdir().unwrap();
    FileKeyVault::create(&KeyPlace::at(dir.path()), &clinic())
        .await
        .unwrap();
    let vault = FileKeyVault::open(&KeyPlace::at(dir.path()), &clinic()).unwrap();
    let key = *vault.data_key(&clinic(), "clinical/pat_a").await.unwrap();
    let moved =
        FileKeyVault::open(&place(dir.path(), kms(config(&endpoint, "k"))), &clinic()).unwrap();
    assert_eq!(
        *moved
            .existing_key(&clinic(), "clinical/pat_a")
            .await
            .unwrap(),
        key
    );
    let (change, escrow) = moved.change_master(&clinic()).await.unwrap();
    assert!(escrow.is_none());
    assert!(change.finish().await.unwrap()[0].starts_with("master-"));
    assert!(!dir.path().join("clinic/master.key").exists());
    assert_eq!(
        *moved
            .existing_key(&clinic(), "clinical/pat_a")
            .await
            .unwrap(),
        key
    );
    // Without the service nothing opens.
    let without = FileKeyVault::open(&KeyPlace::at(dir.path()), &clinic()).unwrap();
    assert!(
        without
            .existing_key(&clinic(), "clinical/pat_a")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn without_the_service_keys_stay_in_memory_for_a_bounded_time_and_then_nothing_opens() {
    let (endpoint, script) = service().await;
    let dir = tempfile::tempdir().unwrap();
    let place = place(dir.path(), kms(config(&endpoint, "alias/chaperone")));
    FileKeyVault::create(&place, &clinic()).await.unwrap();
    let clock = Arc::new(HandClock(AtomicI64::new(1_000)));
    let hand: Arc<dyn Clock> = clock.clone();
    let vault = FileKeyVault::open_all(&place, &[clinic()], hand).unwrap();
    vault.data_key(&clinic(), "clinical/pat_a").await.unwrap();
    // A key that is unwrapped late does not outlive the tenant key that unwrapped it.
    clock.0.fetch_add(890, Ordering::SeqCst);
    vault.data_key(&clinic(), "clinical/pat_b").await.unwrap();
    script.refuse(400, "AccessDeniedException", 10_000);
    clock.0.fetch_add(9, Ordering::SeqCst);
    vault
        .existing_key(&clinic(), "clinical/pat_a")
        .await
        .unwrap();
    clock.0.fetch_add(2, Ordering::SeqCst);
    for name in ["clinical/pat_a", "clinical/pat_b", "clinical/pat_new"] {
        let refused = vault.data_key(&clinic(), name).await.unwrap_err();
        let KeyVaultFailed::Refused(say) = &refused else {
            panic!("{refused:?}");
        };
        assert!(
            say.contains("denies") && say.contains("AccessDeniedException"),
            "{say}"
        );
        assert!(!say.contains("SECRET"), "{say}");
    }
    assert!(vault.signing_seed(&clinic()).await.is_err());
    // It is permitted again: after a moment everything goes on.
    script.refuse(400, "", 0);
    clock.0.fetch_add(3, Ordering::SeqCst);
    vault
        .existing_key(&clinic(), "clinical/pat_a")
        .await
        .unwrap();
}

#[tokio::test]
async fn what_passes_is_tried_again_and_everything_else_is_told_apart() {
    let (endpoint, script) = service().await;
    let dir = tempfile::tempdir().unwrap();
    let service = kms(config(&endpoint, "alias/chaperone"));
    let place = place(dir.path(), service);
    FileKeyVault::create(&place, &clinic()).await.unwrap();
    let check = async || {
        FileKeyVault::open(&place, &clinic())
            .unwrap()
            .check(&clinic())
            .await
    };
    for (status, code) in [
        (400, "ThrottlingException"),
        (500, "KMSInternalException"),
        (503, "x"),
    ] {
        script.refuse(status, code, 2);
        check().await.unwrap();
        script.refuse(status, code, 3);
        let failed = check().await.unwrap_err();
        assert!(
            matches!(&failed, KeyVaultUnusable::Kms(failed) if failed.is_passing()),
            "{failed}"
        );
    }
    for (code, says) in [
        ("AccessDeniedException", "denies"),
        ("DisabledException", "enable it"),
        ("KMSInvalidStateException", "cancel its deletion"),
        ("NotFoundException", "enable it"),
        ("IncorrectKeyException", "wrong key"),
    ] {
        let before = script.asked();
        script.refuse(400, code, 1);
        let failed = check().await.unwrap_err();
        assert!(failed.to_string().contains(says), "{failed}");
        assert!(!failed.to_string().contains("SECRET"), "{failed}");
        assert_eq!(script.asked(), before + 1, "{code} is not tried again");
    }
    // Nobody there.
    let nowhere = kms(config("http://127.0.0.1:9", "alias/chaperone"));
    let nobody = self::place(dir.path(), nowhere);
    let vault = FileKeyVault::open(&nobody, &clinic()).unwrap();
    assert!(matches!(
        vault.data_key(&clinic(), "clinical/pat_a").await,
        Err(KeyVaultFailed::Unavailable(_))
    ));
    assert!(
        FileKeyVault::create(
            &self::place(
                &dir.path().join("other"),
                kms(config("http://127.0.0.1:9", "k"))
            ),
            &clinic()
        )
        .await
        .is_err()
    );
    assert!(
        !dir.path().join("other/clinic").exists(),
        "nothing is written without the service"
    );
}

#[tokio::test]
async fn credentials_come_from_a_private_file_and_are_in_no_debug_output() {
    use std::os::unix::fs::PermissionsExt as _;
    let (endpoint, _) = service().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("aws.json");
    let mut config = config(&endpoint, "alias/chaperone");
    assert!(!format!("{config:?}").contains("SECRETEXAMPLE"));
    config.credentials = AwsCredentialSource::File(file.clone());
    let kms = kms(config);
    let asked = async || kms.standing().await;
    let put = |text: &str, mode: u32| {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    };
    assert!(
        asked()
            .await
            .unwrap_err()
            .to_string()
            .contains("cannot be read")
    );
    let good = r#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"S","SessionToken":"T","Expiration":"2999-01-01T00:00:00Z"}"#;
    put(good, 0o644);
    assert!(asked().await.unwrap_err().to_string().contains("chmod"));
    put(&good.replace("2999", "1999"), 0o600);
    assert!(asked().await.unwrap_err().to_string().contains("expired"));
    put("{}", 0o600);
    assert!(
        asked()
            .await
            .unwrap_err()
            .to_string()
            .contains("credential_process")
    );
    put(good, 0o600);
    asked().await.unwrap();
}

/// Makes a key at moto, and does something with it.
async fn moto(endpoint: &str, action: &str, body: Value) -> Value {
    let answer = reqwest::Client::new()
        .post(endpoint)
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", format!("TrentService.{action}"))
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=x",
        )
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    let status = answer.status();
    let body = answer.bytes().await.unwrap();
    assert!(
        status.is_success(),
        "{action}: {}",
        String::from_utf8_lossy(&body)
    );
    serde_json::from_slice(&body).unwrap_or_default()
}

#[tokio::test]
async fn against_moto_keys_are_wrapped_rotated_and_refused() {
    let Ok(endpoint) = std::env::var("CHAPERONE_TEST_KMS") else {
        eprintln!("not run: CHAPERONE_TEST_KMS is not set; scripts/with-moto sets it");
        return;
    };
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let made = moto(&endpoint, "CreateKey", json!({})).await;
    let key = made["KeyMetadata"]["Arn"].as_str().unwrap().to_owned();
    let other = moto(&endpoint, "CreateKey", json!({})).await;
    let other = other["KeyMetadata"]["Arn"].as_str().unwrap().to_owned();
    let dir = tempfile::tempdir().unwrap();
    let place = place(dir.path(), kms(config(&endpoint, &key)));
    FileKeyVault::create(&place, &clinic()).await.unwrap();
    let vault = FileKeyVault::open(&place, &clinic()).unwrap();
    let data = *vault.data_key(&clinic(), "clinical/pat_a").await.unwrap();
    let mut rotation = vault.rotate_tenant_key(&clinic()).await.unwrap();
    rotation.step(10).await.unwrap();
    assert_eq!(rotation.finish().await.unwrap(), [1]);
    let fresh = || FileKeyVault::open(&place, &clinic()).unwrap();
    assert_eq!(
        *fresh()
            .existing_key(&clinic(), "clinical/pat_a")
            .await
            .unwrap(),
        data
    );
    let standing = fresh().service_standing(&clinic()).await.unwrap();
    assert_eq!(
        (standing.key_id.as_str(), standing.renews_itself),
        (key.as_str(), Some(false))
    );
    moto(&endpoint, "EnableKeyRotation", json!({ "KeyId": key })).await;
    let standing = fresh().service_standing(&clinic()).await.unwrap();
    assert_eq!(standing.renews_itself, Some(true));
    // Changed dates are another context, and another key is another key.
    let path = dir.path().join("clinic/tenant-000002.key");
    let sound = fs::read_to_string(&path).unwrap();
    let file: Value = serde_json::from_str(&sound).unwrap();
    let changed = sound.replace(file["made"].as_str().unwrap(), "2099-01-01T00:00:00Z");
    fs::write(&path, changed).unwrap();
    assert!(matches!(
        fresh().check(&clinic()).await,
        Err(KeyVaultUnusable::Kms(KmsFailed::WrongKey { .. }))
    ));
    fs::write(&path, sound.replace(&key, &other)).unwrap();
    let wrong = self::place(dir.path(), kms(config(&endpoint, &other)));
    let wrong = FileKeyVault::open(&wrong, &clinic()).unwrap();
    assert!(wrong.check(&clinic()).await.is_err());
    fs::write(&path, sound).unwrap();
    fresh().check(&clinic()).await.unwrap();
    // Disabled there: the node refuses, and says what to do.
    // moto takes the id alone here.
    let id = key.rsplit('/').next().unwrap();
    moto(&endpoint, "DisableKey", json!({ "KeyId": id })).await;
    let refused = fresh().service_standing(&clinic()).await.unwrap_err();
    assert!(refused.to_string().contains("enable it"), "{refused}");
    // A key that is not there at all.
    let missing = kms(config(&endpoint, "alias/none"));
    assert!(matches!(
        missing.standing().await,
        Err(KmsFailed::KeyUnusable { .. })
    ));
}
