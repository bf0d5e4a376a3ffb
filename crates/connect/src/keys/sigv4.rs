//! AWS Signature Version 4 over a POST without a query: enough for the one service that is called. No files, no
//! network, no clock.
//!
//! # Source
//! AWS Signature Version 4; the tests are of its published test suite.

use aws_lc_rs::hmac;
use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;

use super::aws::AwsCredentials;

/// What is signed.
pub(super) struct ToSign<'a> {
    pub(super) credentials: &'a AwsCredentials,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    pub(super) at: Timestamp,
    /// Without a query, with nothing in it that would be encoded.
    pub(super) path: &'a str,
    /// Lower-case names, in order; `x-amz-date` and `x-amz-security-token` are added.
    pub(super) headers: &'a [(&'static str, &'a str)],
    pub(super) body: &'a [u8],
}

/// The headers that are added to the request.
pub(super) fn sign(to_sign: &ToSign<'_>) -> Vec<(&'static str, String)> {
    let time = to_sign.at.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = to_sign.at.strftime("%Y%m%d").to_string();
    let mut added = vec![("x-amz-date", time.clone())];
    if let Some(token) = &to_sign.credentials.session_token {
        added.push(("x-amz-security-token", token.to_string()));
    }
    let mut headers: Vec<(&str, &str)> = to_sign.headers.to_vec();
    headers.extend(added.iter().map(|(name, value)| (*name, value.as_str())));
    headers.sort_unstable();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}:{}\n", value.trim()))
        .collect();
    let request = format!(
        "POST\n{}\n\n{lines}\n{names}\n{}",
        to_sign.path,
        Digest::of_bytes(to_sign.body)
    );
    let scope = format!("{day}/{}/{}/aws4_request", to_sign.region, to_sign.service);
    let text = format!(
        "AWS4-HMAC-SHA256\n{time}\n{scope}\n{}",
        Digest::of_bytes(request.as_bytes())
    );
    let secret = zeroize::Zeroizing::new(format!(
        "AWS4{}",
        to_sign.credentials.secret_access_key.as_str()
    ));
    let mut key = mac(secret.as_bytes(), day.as_bytes());
    for part in [to_sign.region, to_sign.service, "aws4_request"] {
        key = mac(key.as_ref(), part.as_bytes());
    }
    let signature: String = mac(key.as_ref(), text.as_bytes())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        to_sign.credentials.access_key_id
    );
    added.push(("authorization", authorization));
    added
}

fn mac(key: &[u8], message: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(token: Option<&str>) -> AwsCredentials {
        AwsCredentials {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned().into(),
            session_token: token.map(|token| token.to_owned().into()),
        }
    }

    /// The authorization header of a request of the test suite.
    fn authorization(headers: &[(&'static str, &str)], body: &[u8]) -> String {
        let signed = sign(&ToSign {
            credentials: &credentials(None),
            region: "us-east-1",
            service: "service",
            at: "2015-08-30T12:36:00Z".parse().unwrap(),
            path: "/",
            headers,
            body,
        });
        signed.last().unwrap().1.clone()
    }

    #[test]
    fn requests_of_the_published_suite_are_signed_as_published() {
        const HOST: (&str, &str) = ("host", "example.amazonaws.com");
        // post-vanilla
        assert_eq!(
            authorization(&[HOST], b""),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, \
             Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        );
        // post-x-www-form-urlencoded
        assert_eq!(
            authorization(
                &[("content-type", "application/x-www-form-urlencoded"), HOST],
                b"Param1=value1"
            ),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        );
    }

    #[test]
    fn a_session_token_is_signed_and_another_body_is_another_signature() {
        let signed = |token, body| {
            sign(&ToSign {
                credentials: &credentials(token),
                region: "us-east-1",
                service: "kms",
                at: "2026-01-01T00:00:00Z".parse().unwrap(),
                path: "/",
                headers: &[("host", "h")],
                body,
            })
        };
        let with = signed(Some("token"), b"a".as_slice());
        assert!(
            with.iter()
                .any(|it| *it == ("x-amz-security-token", "token".to_owned()))
        );
        assert!(
            with.last()
                .unwrap()
                .1
                .contains("host;x-amz-date;x-amz-security-token")
        );
        assert_ne!(
            signed(None, b"a".as_slice()).last(),
            signed(None, b"b".as_slice()).last()
        );
    }
}
