// Fills in what the link in the mail knows. It stands behind the '#', which no server sees, and goes from the history as well.
const [address, code] = decodeURIComponent(location.hash.slice(1)).split(',');
if (address && code) {
  document.querySelector('[name=address]').value = address;
  document.querySelector('[name=code]').value = code;
  history.replaceState(null, '', location.pathname);
}
