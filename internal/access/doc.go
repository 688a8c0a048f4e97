// Package access decides what a caller may do. It turns a credential into a [Grant], and answers two
// questions about a grant: may it publish to this group ([Grant.May]), and does it cover this filter
// ([Grant.Covers]).
//
// Two kinds of token lead to a grant:
//
//   - API tokens ("wb_…"), made by [NewToken]. A [TokenFile] holds their SHA-256, never the token.
//   - JWTs (RFC 7519), signed by an issuer whose keys are configured ([JWT]). The algorithm follows
//     from the key, never from the token.
//
// An [Authenticator] accepts both, remembers the verified ones, and knows which are revoked. The package
// knows no HTTP server and no hub: doors (api) authenticate with it, the hub authorises with it.
//
// No error of this package contains any part of a token.
package access
