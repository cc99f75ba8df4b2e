// Where a link within the page leads: the incident that is to be shown, until its row has taken notice.

class Focus {
  incident = $state<string | null>(null);
}

export const focus = new Focus();
