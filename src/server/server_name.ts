/** What the device calls itself at `hello`. */
export const SERVER_NAME = "vgtt/0.1.0";
