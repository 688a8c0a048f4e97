package access

// CheckRedirect decides about a redirect of the source of a key set.
var CheckRedirect = checkRedirect
