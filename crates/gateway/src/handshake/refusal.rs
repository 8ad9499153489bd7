//! Refusals of a connect, in the original's words: codes, reasons and next steps.

use clawgate_core::{
    Dialect, ErrorCode, ScopeSet,
    authz::{CredentialFault, Denied, Evidence, PairingReason, Peer, Proof, Record},
    origin::OriginFault,
    proof::ProofFault,
};
use clawgate_protocol::{ErrorShape, connect::ConnectParams};
use serde_json::{Value, json};

use super::{Attempt, Refusal};
use crate::{config::Auth, credentials::Checked, pairing::Arrival};

impl Attempt<'_> {
    pub(super) fn denied(
        &self,
        evidence: &Evidence,
        denied: Denied,
        checked: &Checked,
    ) -> ErrorShape {
        // A Control UI without a device is told that first, whatever else it presents.
        if evidence.proof == Proof::Absent
            && self.params.client.is_control_ui()
            && matches!(denied, Denied::Credential(_))
        {
            return identity_required(self.params);
        }
        match denied {
            Denied::DeviceIdentityRequired if self.secret_is_in_the_other_field() => {
                self.credential_missing()
            }
            Denied::OriginNotAllowed => origin_error(OriginFault::NotAllowed),
            Denied::DeviceProof(fault) => proof_error(fault),
            Denied::DeviceIdentityRequired => identity_required(self.params),
            Denied::CredentialMissing => self.credential_missing(),
            Denied::Credential(fault) => self.credential_error(evidence, fault),
            Denied::NothingGranted => nothing_granted(self.dialect, self.params, checked),
        }
    }

    /// Wire 3 takes the secret from the field of its mode alone and calls the other one missing.
    fn secret_is_in_the_other_field(&self) -> bool {
        let auth = &self.params.auth;
        let (own, other) = match &self.gateway.config().auth {
            Auth::Token(_) => (&auth.token, &auth.password),
            Auth::Password(_) => (&auth.password, &auth.token),
            Auth::None | Auth::TrustedProxy(_) => return false,
        };
        let filled = |secret: &Option<String>| {
            secret
                .as_deref()
                .is_some_and(|secret| !secret.trim().is_empty())
        };
        self.dialect == Dialect::V3
            && !self.params.client.is_control_ui()
            && !filled(own)
            && filled(other)
    }

    fn credential_missing(&self) -> ErrorShape {
        let client = &self.params.client;
        let hint = match (&self.gateway.config().auth, self.dialect) {
            (Auth::Token(_), Dialect::V4) if client.is_control_ui() || client.is_webchat() => {
                // The original's words go on with a command of its own that is none of ours.
                "paste in Control UI settings".to_owned()
            }
            _ => self.hint("provide gateway auth"),
        };
        match &self.gateway.config().auth {
            Auth::Password(_) => auth_error(
                "password_missing",
                "AUTH_PASSWORD_MISSING",
                format!("unauthorized: gateway password missing ({hint})"),
                "update_auth_configuration",
            ),
            Auth::Token(_) => auth_error(
                "token_missing",
                "AUTH_TOKEN_MISSING",
                format!("unauthorized: gateway token missing ({hint})"),
                "update_auth_configuration",
            ),
            Auth::TrustedProxy(_) => auth_error(
                "trusted_proxy_user_missing",
                "AUTH_UNAUTHORIZED",
                "unauthorized".to_owned(),
                "review_auth_configuration",
            ),
            Auth::None => auth_error(
                "unauthorized",
                "AUTH_REQUIRED",
                "unauthorized".to_owned(),
                "review_auth_configuration",
            ),
        }
    }

    /// The original's hints, by who asks.
    fn hint(&self, other: &str) -> String {
        let client = &self.params.client;
        let password = matches!(self.gateway.config().auth, Auth::Password(_));
        let word = if password { "password" } else { "token" };
        if client.mode == "cli" {
            let local = self.request.way.peer == Peer::LoopbackDirect;
            return match self.dialect {
                Dialect::V4 if local && password => {
                    "use this gateway's gateway.auth.password".to_owned()
                }
                Dialect::V4 if local => {
                    "use this gateway's gateway.auth.token or pair the device".to_owned()
                }
                _ => format!("set gateway.remote.{word} to match gateway.auth.{word}"),
            };
        }
        if client.is_control_ui() || client.is_webchat() {
            return if password {
                "enter the password in Control UI settings".to_owned()
            } else {
                "open the dashboard URL and paste the token in Control UI settings".to_owned()
            };
        }
        format!("{other} {word}")
    }

    fn credential_error(&self, evidence: &Evidence, fault: CredentialFault) -> ErrorShape {
        let hint = || self.hint("provide gateway auth");
        let credentials = "update_auth_credentials";
        let configuration = "update_auth_configuration";
        let review = "review_auth_configuration";
        match fault {
            CredentialFault::TokenMismatch => {
                let mut error = auth_error(
                    "token_mismatch",
                    "AUTH_TOKEN_MISMATCH",
                    format!("unauthorized: gateway token mismatch ({})", hint()),
                    credentials,
                );
                let auth = &self.params.auth;
                if evidence.proof == Proof::Valid
                    && auth.token.is_some()
                    && auth.device_token.is_none()
                    && let Some(details) = error.details.as_mut()
                {
                    details["canRetryWithDeviceToken"] = Value::Bool(true);
                    details["recommendedNextStep"] = "retry_with_device_token".into();
                }
                error
            }
            CredentialFault::TokenNotConfigured => auth_error(
                "token_missing_config",
                "AUTH_TOKEN_NOT_CONFIGURED",
                "unauthorized: gateway token not configured on gateway (set gateway.auth.token)".to_owned(),
                configuration,
            ),
            CredentialFault::PasswordMismatch => auth_error(
                "password_mismatch",
                "AUTH_PASSWORD_MISMATCH",
                format!("unauthorized: gateway password mismatch ({})", hint()),
                credentials,
            ),
            CredentialFault::PasswordNotConfigured => auth_error(
                "password_missing_config",
                "AUTH_PASSWORD_NOT_CONFIGURED",
                "unauthorized: gateway password not configured on gateway (set gateway.auth.password)".to_owned(),
                configuration,
            ),
            CredentialFault::DeviceTokenMismatch => auth_error(
                "device_token_mismatch",
                "AUTH_DEVICE_TOKEN_MISMATCH",
                "unauthorized: device token mismatch (rotate/reissue device token)".to_owned(),
                credentials,
            ),
            CredentialFault::BootstrapInvalid => auth_error(
                "bootstrap_token_invalid",
                "AUTH_BOOTSTRAP_TOKEN_INVALID",
                match self.dialect {
                    Dialect::V3 => "unauthorized: bootstrap token invalid or expired (scan a fresh setup code)",
                    Dialect::V4 => "unauthorized: setup code invalid, expired, revoked, or already used (create a new code; review `openclaw devices list`)",
                }
                .to_owned(),
                review,
            ),
            CredentialFault::ApiTokenExpired => auth_error(
                "api_token_expired",
                "AUTH_API_TOKEN_EXPIRED",
                "unauthorized: API token expired (make a new one: clawgate tokens create)".to_owned(),
                credentials,
            ),
            CredentialFault::ApiTokenRevoked => auth_error(
                "api_token_revoked",
                "AUTH_API_TOKEN_REVOKED",
                "unauthorized: API token revoked (make a new one: clawgate tokens create)".to_owned(),
                credentials,
            ),
            CredentialFault::LocalProofMismatch => auth_error(
                "local_proof_mismatch",
                "AUTH_LOCAL_PROOF_MISMATCH",
                "unauthorized: local proof mismatch (point --state-dir at this gateway's state directory)".to_owned(),
                credentials,
            ),
            CredentialFault::LocalProofNotLocal => auth_error(
                "local_proof_not_local",
                "AUTH_LOCAL_PROOF_NOT_LOCAL",
                "unauthorized: a local proof counts on the gateway's own machine only".to_owned(),
                review,
            ),
            CredentialFault::ProxyUserMissing => {
                auth_error("trusted_proxy_user_missing", "AUTH_UNAUTHORIZED", "unauthorized".to_owned(), review)
            }
            CredentialFault::ProxyUntrusted => {
                auth_error("trusted_proxy_untrusted_source", "AUTH_UNAUTHORIZED", "unauthorized".to_owned(), review)
            }
            CredentialFault::ProxyUserNotAllowed => {
                auth_error("trusted_proxy_user_not_allowed", "AUTH_UNAUTHORIZED", "unauthorized".to_owned(), review)
            }
            CredentialFault::RateLimited { retry_after_ms } => {
                let error = auth_error(
                    "rate_limited",
                    "AUTH_RATE_LIMITED",
                    "unauthorized: too many failed authentication attempts (retry later)".to_owned(),
                    "wait_then_retry",
                );
                match self.dialect {
                    Dialect::V3 => error,
                    Dialect::V4 => error.retry_after(retry_after_ms),
                }
            }
        }
    }
}

fn auth_error(reason: &str, code: &str, message: String, next: &str) -> ErrorShape {
    ErrorShape::invalid(message).with_details(json!({
        "code": code,
        "authReason": reason,
        "canRetryWithDeviceToken": false,
        "recommendedNextStep": next,
    }))
}

pub(super) fn origin_error(fault: OriginFault) -> ErrorShape {
    ErrorShape::invalid(
        "origin not allowed (open the Control UI from the gateway host or allow it in gateway.controlUi.allowedOrigins)",
    )
    .with_details(json!({"code": "CONTROL_UI_ORIGIN_NOT_ALLOWED", "reason": fault.as_str()}))
}

pub(super) fn proof_error(fault: ProofFault) -> ErrorShape {
    let (message, code, reason) = match fault {
        ProofFault::IdentityMismatch => (
            "device identity mismatch",
            "DEVICE_AUTH_DEVICE_ID_MISMATCH",
            "device-id-mismatch",
        ),
        ProofFault::Expired => (
            "device signature expired",
            "DEVICE_AUTH_SIGNATURE_EXPIRED",
            "device-signature-stale",
        ),
        ProofFault::NonceMissing => (
            "device nonce required",
            "DEVICE_AUTH_NONCE_REQUIRED",
            "device-nonce-missing",
        ),
        ProofFault::NonceMismatch => (
            "device nonce mismatch",
            "DEVICE_AUTH_NONCE_MISMATCH",
            "device-nonce-mismatch",
        ),
        ProofFault::SignatureInvalid => (
            "device signature invalid",
            "DEVICE_AUTH_SIGNATURE_INVALID",
            "device-signature",
        ),
    };
    ErrorShape::invalid(message).with_details(json!({"code": code, "reason": reason}))
}

/// Refused for want of a device, with the next step in it: a remote caller never gets a hello
/// that can do nothing.
pub(super) fn identity_required(params: &ConnectParams) -> ErrorShape {
    let next = "connect with a device identity and have it approved: clawgate devices approve";
    if params.client.is_control_ui() {
        return ErrorShape::invalid(
            "control ui requires device identity (use HTTPS or localhost secure context)",
        )
        .with_details(json!({"code": "CONTROL_UI_DEVICE_IDENTITY_REQUIRED", "nextStep": next}));
    }
    ErrorShape::new(ErrorCode::NotPaired, "device identity required")
        .with_details(json!({"code": "DEVICE_IDENTITY_REQUIRED", "nextStep": next}))
}

fn nothing_granted(dialect: Dialect, params: &ConnectParams, checked: &Checked) -> ErrorShape {
    let wanted = params.scopes.clone().unwrap_or_default();
    let held = checked
        .api_token
        .as_ref()
        .map(|held| &held.name)
        .map_or_else(
            || "no presented credential".to_owned(),
            |name| format!("API token {name:?}"),
        );
    let first = wanted
        .iter()
        .next()
        .map(ToString::to_string)
        .unwrap_or_default();
    let code = match dialect {
        Dialect::V3 => ErrorCode::InvalidRequest,
        Dialect::V4 => ErrorCode::Forbidden,
    };
    ErrorShape::new(code, format!("missing scope: {first}")).with_details(json!({
        "code": "MISSING_SCOPE",
        "missingScope": first,
        "requiredScopes": wanted,
        "reason": format!("{held} carries none of the requested scopes"),
        "nextStep": "ask for scopes that the credential carries, or make one that carries them: clawgate tokens create",
    }))
}

pub(super) fn pairing_required(
    dialect: Dialect,
    id: &str,
    evidence: &Evidence,
    arrival: &Arrival,
    wanted: &ScopeSet,
    reason: PairingReason,
    request_id: &str,
) -> Refusal {
    if dialect == Dialect::V3 {
        let details =
            json!({"code": "PAIRING_REQUIRED", "requestId": request_id, "reason": reason.as_str()});
        let error = ErrorShape::new(ErrorCode::NotPaired, "pairing required").with_details(details);
        return Refusal::answered(id, error);
    }
    let (text, hint) = match reason {
        PairingReason::NotPaired => (
            "device is not approved yet",
            "Approve this device from the pending pairing requests.",
        ),
        PairingReason::ScopeUpgrade => (
            "device is asking for more scopes than currently approved",
            "Review the requested scopes, then approve the pending upgrade.",
        ),
        PairingReason::RoleUpgrade => (
            "device is asking for a higher role than currently approved",
            "Review the requested role upgrade, then approve the pending request.",
        ),
        PairingReason::MetadataUpgrade => (
            "device identity changed and must be re-approved",
            "Review the refreshed device details, then approve the pending request.",
        ),
    };
    let mut details = json!({
        "code": "PAIRING_REQUIRED",
        "reason": reason.as_str(),
        "requestId": request_id,
        "remediationHint": hint,
        "deviceId": arrival.device_id,
        "requestedRole": arrival.role,
    });
    if !wanted.is_empty() {
        details["requestedScopes"] = json!(wanted);
    }
    if let Record::Paired {
        scopes, for_role, ..
    } = &evidence.record
    {
        let roles = if *for_role {
            vec![arrival.role]
        } else {
            Vec::new()
        };
        details["approvedRoles"] = json!(roles);
        details["approvedScopes"] = json!(scopes);
    }
    let message = format!("pairing required: {text}");
    let reason = format!("{message} (requestId: {request_id})");
    let error = ErrorShape::new(ErrorCode::NotPaired, message).with_details(details);
    Refusal::answered(id, error).closing_with(1008, reason)
}
