package console

// Routes is every address that there is, as "GET /credentials".
func Routes() (list []string) {
	for _, rt := range new(Console).table() {
		list = append(list, rt.method+" "+rt.path)
	}
	return list
}
