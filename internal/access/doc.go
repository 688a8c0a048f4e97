// Package access decides what a caller may do. It turns a credential into a [Grant], and decides whether a
// grant allows publishing to a group ([Grant.May]) and subscribing to a filter ([Grant.Covers]).
//
// There are two kinds of token:
//
//   - API tokens ("wb_…"), created by [NewToken]. A token file ([AddToken]) holds their SHA-256, never the token.
//   - JWTs (RFC 7519), signed by an issuer whose keys are configured ([JWT]). The algorithm follows
//     from the key, never from the token.
//
// An [Authenticator] accepts both, caches verified JWTs, and refuses revoked tokens. The package depends on
// neither the HTTP server nor the hub: package api authenticates with it, and the hub authorises with it.
//
// No error of this package contains any part of a token.
package access
