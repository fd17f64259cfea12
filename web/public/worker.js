// The page's service worker: what a click on a notification does. It keeps no files and answers no requests, so the page is always the node's own.
//
// Browsers of telephones let none but service workers notify, and only notifications of service workers have buttons.

self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', event => event.waitUntil(self.clients.claim()));

self.addEventListener('message', event => {
  const { name, options } = event.data;
  const data = { ...options.data, tab: event.source.id };
  event.waitUntil(self.registration.showNotification(name, { ...options, data }));
});

self.addEventListener('notificationclick', event => {
  const { notification, action } = event;
  notification.close();
  event.waitUntil(follow(notification.data ?? {}, action));
});

/** Tells the tab whose call it is what was chosen, and shows that tab. Where it is gone, the page is opened. */
async function follow({ tab, call, place }, action) {
  const tabs = await self.clients.matchAll({ type: 'window', includeUncontrolled: true });
  const meant = tabs.find(one => one.id === tab);
  if (!meant) {
    if (action !== 'reject') await self.clients.openWindow(`/#${place ?? '/'}`);
    return;
  }
  // Whoever rejects goes on with what he looks at.
  if (action !== 'reject') await meant.focus().catch(() => {});
  meant.postMessage({ chosen: action || 'show', call, place });
}
