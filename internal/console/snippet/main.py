import os, requests

hub = "{hub}"
mine = requests.post(hub + "/oauth/token", data={"grant_type": "client_credentials"},
    auth=(os.environ["GRANTWAY_CLIENT_ID"], os.environ["GRANTWAY_CLIENT_SECRET"]), timeout=30)
mine.raise_for_status()
token = requests.post(hub + "/v1/credentials/{credential}/token",
    headers={"Authorization": "Bearer " + mine.json()["access_token"]}, timeout=30)
token.raise_for_status()
header = token.json()["header"]

things = requests.get("https://api.example.com/v1/things", headers={header["name"]: header["value"]}, timeout=30)
print(things.text)
