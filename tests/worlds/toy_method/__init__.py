"""The smallest method there can be, in the files of a real one: copied to `spasemsr/methods/toy`, it is one."""
