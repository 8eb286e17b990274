//! The keys that hold one of a few words, and what each word means.

use super::kinds::choice;

choice! {
    /// `control.log`
    pub enum ControlLevel {
        /// What `log.level` says.
        AsProcess = "",
        /// Everything but the insides.
        Debug = "debug",
        /// Failures only.
        Error = "error",
        /// What an operator wants to know.
        Info = "info",
        /// The insides too.
        Trace = "trace",
        /// What needs attention.
        Warn = "warn",
    }
}

choice! {
    /// `control.session_alg`
    pub enum SessionAlg {
        /// Ed25519.
        EdDsa = "EdDSA",
        /// ECDSA on P-256 with SHA-256.
        Es256 = "ES256",
        /// RSASSA-PKCS1-v1_5 with SHA-256.
        Rs256 = "RS256",
    }
}

choice! {
    /// `log.level`
    pub enum Level {
        /// Everything but the insides.
        Debug = "debug",
        /// Failures only.
        Error = "error",
        /// What an operator wants to know.
        Info = "info",
        /// The insides too.
        Trace = "trace",
        /// What needs attention.
        Warn = "warn",
    }
}

choice! {
    /// `feed.mode`
    pub enum FeedMode {
        /// A snapshot file.
        File = "file",
        /// A control plane is followed.
        Pull = "pull",
    }
}

choice! {
    /// An element of `keys.renderings`
    pub enum Rendering {
        /// `ZENKEY_…`
        Zen = "zen",
        /// `ZENPROKEY_…`
        Zenpro = "zenpro",
    }
}

choice! {
    /// `headers.underscore`
    pub enum Underscore {
        /// The header is removed.
        Drop = "drop",
        /// The header is forwarded.
        Keep = "keep",
        /// 400.
        Reject = "reject",
    }
}

choice! {
    /// `paths.ambiguous`
    pub enum Ambiguous {
        /// The canonical path is matched and forwarded.
        Canonicalise = "canonicalise",
        /// 308 to the canonical path.
        Redirect = "redirect",
        /// 400.
        Reject = "reject",
    }
}

choice! {
    /// `paths.odd_segments`
    pub enum OddSegments {
        /// Forwarded.
        Keep = "keep",
        /// 400.
        Reject = "reject",
    }
}

choice! {
    /// `routes.auth`
    pub enum Auth {
        /// A valid key is needed.
        Key = "key",
        /// The route is public.
        None = "none",
    }
}

choice! {
    /// `routes.encoded_slash`
    pub enum EncodedSlash {
        /// `%2F` is forwarded.
        Keep = "keep",
        /// 400.
        Reject = "reject",
    }
}

choice! {
    /// `routes.unknown_resource`
    pub enum UnknownResource {
        /// 403.
        Deny = "deny",
        /// A child of the root.
        Root = "root",
    }
}

choice! {
    /// `routes.on_stale`
    pub enum OnStale {
        /// 503.
        FailClosed = "fail_closed",
        /// GET, HEAD and OPTIONS pass.
        SafeMethods = "safe_methods",
        /// All pass.
        ServeRecorded = "serve_recorded",
    }
}

choice! {
    /// `routes.error_template`
    pub enum ErrorTemplate {
        /// `{"message"}`
        Aihub = "aihub",
        /// `{"message", "fieldViolations"}`
        Castai = "castai",
        /// `grpc-status` and `grpc-message`.
        Grpc = "grpc",
        /// `{"detail"}`
        Kitaru = "kitaru",
        /// `{"error", "error_description"}`
        Oauth = "oauth",
        /// `{"error": {"message", "type", "param", "code"}}`
        Openai = "openai",
        /// RFC 9457.
        Problem = "problem",
        /// `{"meta", "error"}`
        Unkey = "unkey",
        /// `{"detail": ["<class>", "<message>"]}`
        Zenml = "zenml",
    }
}
