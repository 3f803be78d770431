"""The Gateway Dashboard in headless Chromium, as a person uses it: API_KEY=KEY python3 check.py URL [SCREENSHOT_FOLDER]

Signs in, places an order, sees it, cancels it, sees the stock come back, signs out; with and without JavaScript, in
light and dark, on a phone's width; with axe's accessibility rules (contrast, labels and others) and without an error on
the console.
"""

import json
import os
import pathlib
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

from axe_core_python.selenium import Axe
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

URL = sys.argv[1].rstrip("/")
API_KEY = os.environ["API_KEY"]
SCREENSHOTS = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
SKU = "HINGE-3"
SESSION = "stockyard_session"
passed = failed = 0


def check(name, holds, told=""):
    global passed, failed
    passed, failed = passed + bool(holds), failed + (not holds)
    print("ok     " if holds else "FAILED ", name, "" if holds else told, flush=True)


def browser(width=1280, script=True):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    # A container of CI gives Chromium neither its sandbox nor much shared memory.
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--window-size={width},1400"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if not script:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))


def available():
    with urllib.request.urlopen(f"{URL}/api/v1/items/{SKU}") as answer:
        return json.load(answer)["available"]


def place_over_the_api(quantity):
    body = json.dumps({"customer": "browser test", "lines": [{"sku": SKU, "quantity": quantity}]}).encode()
    headers = {
        "authorization": f"Bearer {API_KEY}",
        "content-type": "application/json",
        "idempotency-key": str(uuid.uuid4()),
    }
    with urllib.request.urlopen(urllib.request.Request(f"{URL}/api/v1/orders", body, headers)) as answer:
        return json.load(answer)["id"]


def until(holds, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if holds():
                return True
        except Exception:  # the page is just being renewed
            pass
        time.sleep(0.1)
    return False


def first_row(driver):
    return driver.find_element(By.CSS_SELECTOR, "#latest tbody tr").text


def shown_available(driver):
    for row in driver.find_elements(By.CSS_SELECTOR, "#stock tbody tr"):
        cells = [cell.text for cell in row.find_elements(By.TAG_NAME, "td")]
        if cells[0] == SKU:
            return int(cells[5])


def shown(driver, selector):
    return len(driver.find_elements(By.CSS_SELECTOR, selector))


def message(driver):
    return driver.find_element(By.CSS_SELECTOR, ".outcome").text


def is_signed_out(driver):
    """There is the form that signs in, and nothing that writes."""
    return [shown(driver, what) for what in (".session input[name=key]", ".place", "#latest button")] == [1, 0, 0]


def send_key(driver, key):
    driver.find_element(By.CSS_SELECTOR, ".session input[name=key]").send_keys(key)
    driver.find_element(By.CSS_SELECTOR, ".session button").click()


def sign_in(driver, kind):
    place_over_the_api(1)  # one that could be cancelled
    driver.get(URL + "/")
    check(f"{kind}: without a session there is a sign-in form and nothing to place or cancel by", is_signed_out(driver))
    send_key(driver, uuid.uuid4().hex)
    refused = "Not signed in: the key is not known, or may not write."
    check(f"{kind}: a wrong key is told", until(lambda: message(driver) == refused))
    check(f"{kind}: and gives no session", is_signed_out(driver) and driver.get_cookie(SESSION) is None)
    send_key(driver, API_KEY)
    check(f"{kind}: the key signs in", until(lambda: shown(driver, ".place") == 1 and shown(driver, "#latest button") > 0))
    address = driver.current_url
    check(f"{kind}: the address tells it, without the key", address == f"{URL}/?outcome=signed-in#orders", address)
    cookie = driver.get_cookie(SESSION)
    own = (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    check(f"{kind}: the cookie is for this site's pages alone, and for no script", own, cookie)
    hours = (cookie.get("expiry", 0) - time.time()) / 3600
    check(f"{kind}: the session ends within 8 hours", 7.9 < hours <= 8, f"{hours} h")


def sign_out(driver, kind):
    driver.get(URL + "/")
    driver.find_element(By.CSS_SELECTOR, ".session button").click()
    check(f"{kind}: signing out ends the session", until(lambda: is_signed_out(driver)) and driver.get_cookie(SESSION) is None)


def place_and_cancel(driver, kind):
    """Follows one order through the page alone."""
    driver.get(URL + "/")
    before = shown_available(driver)
    Select(driver.find_element(By.NAME, "sku")).select_by_value(SKU)
    quantity = driver.find_element(By.NAME, "quantity")
    quantity.clear()
    quantity.send_keys("3")
    driver.find_element(By.CSS_SELECTOR, ".place button").click()
    check(f"{kind}: the page says that the order is placed", until(lambda: "is placed" in message(driver)))
    row = first_row(driver)
    check(f"{kind}: the order is shown as confirmed", "confirmed" in row and f"3 × {SKU}" in row, row)
    check(f"{kind}: the stock is less by three", shown_available(driver) == before - 3 == available())
    driver.find_element(By.CSS_SELECTOR, "#latest tbody tr button").click()
    check(f"{kind}: the page says that the order is cancelled", until(lambda: "is cancelled" in message(driver)))
    check(f"{kind}: the order is shown as cancelled", "cancelled" in first_row(driver), first_row(driver))
    check(f"{kind}: the stock is back", shown_available(driver) == before == available())


def live(driver):
    """What happens elsewhere shows without a reload, and what was typed stays."""
    driver.get(URL + "/")
    driver.execute_script("window.sameDocument = true")
    quantity = driver.find_element(By.NAME, "quantity")
    quantity.clear()
    quantity.send_keys("17")
    order = place_over_the_api(1)
    check("live: an order placed elsewhere appears", until(lambda: order in first_row(driver)))
    check("live: without a reload", driver.execute_script("return window.sameDocument") is True)
    check("live: what was typed stays", driver.find_element(By.NAME, "quantity").get_property("value") == "17")
    drawn = lambda: len(driver.find_elements(By.CSS_SELECTOR, "#parts svg path.line"))
    check("live: the charts have lines", until(lambda: drawn() >= 9, 60), f"{drawn()} lines")


def looks(driver, name, width, dark):
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    driver.get(URL + "/")
    axe = Axe()
    violations = axe.run(driver)["violations"]
    told = [(found["id"], [node["html"][:120] for node in found["nodes"]]) for found in violations]
    check(f"{name}: axe finds nothing", not told, told)
    wide = driver.execute_script("return document.documentElement.scrollWidth")
    check(f"{name}: the page is not wider than the screen", wide <= width, f"{wide} > {width}")
    height = driver.execute_script("return document.documentElement.scrollHeight")
    driver.set_window_size(driver.get_window_size()["width"], height + 150)
    driver.save_screenshot(str(SCREENSHOTS / f"{name}.png"))


def console(driver, kind):
    errors = [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    check(f"{kind}: nothing on the console", not errors, errors)


def phone(driver):
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def sent_form(path, fields, headers):
    """The status of a form that no browser sent."""
    headers = {"content-type": "application/x-www-form-urlencoded"} | headers
    try:
        form = urllib.parse.urlencode(fields).encode()
        return urllib.request.urlopen(urllib.request.Request(URL + path, form, headers)).status
    except urllib.error.HTTPError as error:
        return error.code


def forged_forms(session):
    before = available()
    form = {"key": uuid.uuid4(), "sku": SKU, "quantity": 1}
    cookie = {"cookie": f"{SESSION}={session}"}
    elsewhere = {"origin": "http://evil.example", "sec-fetch-site": "cross-site"}
    status = sent_form("/demo/orders", form, elsewhere | cookie)
    check("another site's form is refused, though the session is sent with it", status == 403, status)
    status = sent_form("/session", {"key": API_KEY}, elsewhere)
    check("another site signs nobody in", status == 403, status)
    here = {"sec-fetch-site": "same-origin"}
    status = sent_form("/demo/orders", form, here)
    check("a form without a session is refused", status == 401, status)
    status = sent_form("/demo/orders", form, here | {"cookie": f"{SESSION}={session[:-1]}"})
    check("a form with a session of another's making is refused", status == 401, status)
    check("none of them has ordered anything", available() == before)
    status = sent_form("/demo/orders", form, here | cookie)
    check("the same form with the session does", (status, available()) == (200, before - 1), status)


def main():
    with browser() as driver:
        looks(driver, "signed-out-light", 1280, dark=False)
        looks(driver, "signed-out-dark", 1280, dark=True)
        sign_in(driver, "with JavaScript")
        forged_forms(driver.get_cookie(SESSION)["value"])
        place_and_cancel(driver, "with JavaScript")
        live(driver)
        looks(driver, "light", 1280, dark=False)
        looks(driver, "dark", 1280, dark=True)
        sign_out(driver, "with JavaScript")
        console(driver, "desktop")
    with browser() as driver:
        phone(driver)
        looks(driver, "phone-signed-out", 390, dark=False)
        sign_in(driver, "on a phone")
        place_and_cancel(driver, "on a phone")
        looks(driver, "phone-light", 390, dark=False)
        looks(driver, "phone-dark", 390, dark=True)
        console(driver, "phone")
    with browser(script=False) as driver:
        sign_in(driver, "without JavaScript")
        place_and_cancel(driver, "without JavaScript")
        sign_out(driver, "without JavaScript")
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
