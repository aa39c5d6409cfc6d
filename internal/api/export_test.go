package api

// Route is one row of the table of routes.
type Route struct {
	Method, Path, Name, Summary, Query string
	Status                             int  // of success
	Open                               bool // needs no caller
}

// Routes lists the table of routes.
func Routes() []Route {
	var list []Route
	for _, rt := range new(API).routes() {
		list = append(list, Route{rt.method, rt.path, rt.name, rt.summary, rt.query, rt.status, rt.open})
	}
	return list
}
