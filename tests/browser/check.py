"""The Gateway Dashboard in headless Chromium, as a person uses it: python3 check.py URL [SCREENSHOT_FOLDER]

Places an order, sees it, cancels it, sees the stock come back; with and without JavaScript, in light and dark, on a
phone's width; with axe's accessibility rules (contrast, labels and others) and without an error on the console.
"""

import json
import pathlib
import sys
import tempfile
import time
import urllib.request
import uuid

from axe_core_python.selenium import Axe
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

URL = sys.argv[1].rstrip("/")
SCREENSHOTS = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
SKU = "HINGE-3"
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
    headers = {"content-type": "application/json", "idempotency-key": str(uuid.uuid4())}
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


def place_and_cancel(driver, kind):
    """Follows one order through the page alone."""
    driver.get(URL + "/")
    before = shown_available(driver)
    Select(driver.find_element(By.NAME, "sku")).select_by_value(SKU)
    quantity = driver.find_element(By.NAME, "quantity")
    quantity.clear()
    quantity.send_keys("3")
    driver.find_element(By.CSS_SELECTOR, ".place button").click()
    message = lambda: driver.find_element(By.CSS_SELECTOR, ".outcome").text
    check(f"{kind}: the page says that the order is placed", until(lambda: "is placed" in message()))
    row = first_row(driver)
    check(f"{kind}: the order is shown as confirmed", "confirmed" in row and f"3 × {SKU}" in row, row)
    check(f"{kind}: the stock is less by three", shown_available(driver) == before - 3 == available())
    driver.find_element(By.CSS_SELECTOR, "#latest tbody tr button").click()
    check(f"{kind}: the page says that the order is cancelled", until(lambda: "is cancelled" in message()))
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


def cross_site():
    form = f"key={uuid.uuid4()}&sku={SKU}&quantity=1".encode()
    headers = {"content-type": "application/x-www-form-urlencoded", "origin": "http://evil.example", "sec-fetch-site": "cross-site"}
    before = available()
    try:
        urllib.request.urlopen(urllib.request.Request(f"{URL}/demo/orders", form, headers))
        status = 200
    except urllib.error.HTTPError as error:
        status = error.code
    check("another site's form is refused and orders nothing", (status, available()) == (403, before), status)


def main():
    with browser() as driver:
        place_and_cancel(driver, "with JavaScript")
        live(driver)
        looks(driver, "light", 1280, dark=False)
        looks(driver, "dark", 1280, dark=True)
        console(driver, "desktop")
    with browser() as driver:
        phone(driver)
        place_and_cancel(driver, "on a phone")
        looks(driver, "phone-light", 390, dark=False)
        looks(driver, "phone-dark", 390, dark=True)
        console(driver, "phone")
    with browser(script=False) as driver:
        place_and_cancel(driver, "without JavaScript")
    cross_site()
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
