/** Where cloud regions and countries lie: longitude and latitude of their names, for the map. */

type Place = readonly [number, number];

const PLACES: Record<string, Place> = {
  'us-east': [-77.5, 39.0], 'us-west': [-122.3, 45.6], 'us-central': [-93.6, 41.6], 'us-south': [-96.8, 32.8], 'ca-central': [-73.6, 45.5], 'sa-east': [-46.6, -23.5],
  'eu-central': [8.7, 50.1], 'eu-west': [-6.3, 53.3], 'eu-north': [18.1, 59.3], 'eu-south': [9.2, 45.5], europe: [8.7, 50.1], uk: [-0.1, 51.5], 'me-south': [50.6, 26.2],
  'me-central': [55.3, 25.2], 'af-south': [18.4, -33.9], 'ap-south': [72.9, 19.1], 'ap-southeast': [103.8, 1.4], 'ap-northeast': [139.7, 35.7], 'ap-east': [114.2, 22.3], australia: [151.2, -33.9],
  us: [-98, 39], ca: [-106, 56], mx: [-102, 23], br: [-53, -10], ar: [-64, -34], gb: [-2, 54], ie: [-8, 53], fr: [2.5, 46.5], de: [10.4, 51.2], es: [-3.7, 40.2], it: [12.6, 42.8], nl: [5.3, 52.1],
  ch: [8.2, 46.8], at: [14.1, 47.6], pl: [19.4, 52.1], se: [15.3, 62.2], no: [8.5, 60.5], fi: [26, 64], ua: [31.4, 49], tr: [35.2, 39], il: [34.9, 31.4], ae: [54.3, 24], sa: [45, 24], eg: [30, 27], ng: [8, 9.6],
  za: [25, -29], ke: [38, 0.5], in: [79, 22], cn: [104, 35], jp: [138, 36.5], kr: [127.8, 36.4], tw: [121, 23.7], hk: [114.2, 22.3], sg: [103.8, 1.4], id: [113.9, -0.8], au: [134, -25], nz: [172, -41],
};

/** `us-east-1` and `westeurope` style names end in digits or lack them: the longest known beginning counts. */
export function placeOf(name: string): Place | null {
  const asked = name.trim().toLowerCase().replaceAll('_', '-');
  for (let end = asked.length; end >= 2; end--) {
    const known = PLACES[asked.slice(0, end)];
    // A country's two letters must stand alone: "ingress" is not India.
    if (known && (end === asked.length || (end > 2 && /^[-\d]/.test(asked.slice(end))))) return known;
  }
  return null;
}
