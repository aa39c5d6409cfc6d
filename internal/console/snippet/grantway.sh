# grantway signs in with GRANTWAY_CLIENT_ID and GRANTWAY_CLIENT_SECRET.
export GRANTWAY_URL={hub}
grantway curl {credential} https://api.example.com/v1/things

TOKEN=$(grantway token {credential})   # or the token alone
