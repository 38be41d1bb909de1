// One second hand for all ages on the page; it stands still while the tab is hidden.

export const clock = $state({ now: Date.now() });

setInterval(() => {
  if (document.visibilityState === 'visible') clock.now = Date.now();
}, 1000);
