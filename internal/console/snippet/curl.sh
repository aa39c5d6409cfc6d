# GRANTWAY_CLIENT_ID and GRANTWAY_CLIENT_SECRET are those of an OAuth client of this hub.
HUB_TOKEN=$(printf 'user = "%s:%s"' "$GRANTWAY_CLIENT_ID" "$GRANTWAY_CLIENT_SECRET" |
  curl -sS --fail -K - -d grant_type=client_credentials {hub}/oauth/token |
  sed 's/.*"access_token": *"\([^"]*\)".*/\1/')

printf 'header = "Authorization: Bearer %s"' "$HUB_TOKEN" |
  curl -sS --fail -K - -X POST {hub}/v1/credentials/{credential}/token
