package access

import "errors"

// Why a credential is refused. None of them says anything about the token itself.
var (
	ErrMissing = errors.New("a token is needed: send it as Authorization: Bearer TOKEN")
	ErrInvalid = errors.New("the token is not valid here")
	ErrExpired = errors.New("the token has expired: get a new one")
	ErrRevoked = errors.New("the token was revoked: get a new one")
)
