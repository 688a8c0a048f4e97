package watchbox

import _ "embed"

// The contract is in the root directory, where readers look for it. Embedding it needs a Go file
// there.
//
//go:embed openapi.yaml
var openapi []byte
