// Package vault stands in for what names the metrics of a Vault in Google Cloud.
package vault

var Extractor, Bucketer any
