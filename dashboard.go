package watchbox

// WithDashboard determines whether the hub's page is the dashboard, which is the default, or only has links.
func WithDashboard(on bool) Option {
	return func(c *config) error { c.noDashboard = !on; return nil }
}
