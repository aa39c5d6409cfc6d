package console

// Routes is every address that there is, as "GET /credentials".
func Routes() (list []string) {
	for _, rt := range new(Console).table() {
		list = append(list, rt.method+" "+rt.path)
	}
	return list
}

// Unbuilt is a Console of a build without what `make assets` fetches.
func Unbuilt(o Options) (*Console, error) {
	return newConsole(o, func() (*assets, error) { return loadAssets(own) })
}
