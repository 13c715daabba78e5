"""What tests of several folders share: networks, inputs and files made for them, and equality."""
