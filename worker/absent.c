/*
 * What a statically linked GnuTLS refers to and never comes to in a nursery or a worker.
 *
 * There is no static p11-kit, and no place for one: a worker opens no token.  getpwuid_r, for a
 * certificate store in a home directory, would make the C library load its name services.  Whoever
 * does come here is not where he should be, and ends.
 */
#include <stdlib.h>

#define ABSENT(name) \
    void name(void); \
    void name(void)  \
    {                \
        abort();     \
    }

/* clang-format off */
ABSENT(getpwuid_r)
ABSENT(p11_kit_config_option)
ABSENT(p11_kit_message)
ABSENT(p11_kit_module_finalize)
ABSENT(p11_kit_module_get_flags)
ABSENT(p11_kit_module_get_name)
ABSENT(p11_kit_module_load)
ABSENT(p11_kit_module_release)
ABSENT(p11_kit_modules_load)
ABSENT(p11_kit_pin_file_callback)
ABSENT(p11_kit_pin_get_length)
ABSENT(p11_kit_pin_get_value)
ABSENT(p11_kit_pin_new_for_string)
ABSENT(p11_kit_pin_register_callback)
ABSENT(p11_kit_pin_request)
ABSENT(p11_kit_pin_unref)
ABSENT(p11_kit_pin_unregister_callback)
ABSENT(p11_kit_space_strdup)
ABSENT(p11_kit_space_strlen)
ABSENT(p11_kit_strerror)
ABSENT(p11_kit_uri_format)
ABSENT(p11_kit_uri_free)
ABSENT(p11_kit_uri_get_attribute)
ABSENT(p11_kit_uri_get_attributes)
ABSENT(p11_kit_uri_get_module_info)
ABSENT(p11_kit_uri_get_pin_source)
ABSENT(p11_kit_uri_get_pin_value)
ABSENT(p11_kit_uri_get_token_info)
ABSENT(p11_kit_uri_match_module_info)
ABSENT(p11_kit_uri_match_token_info)
ABSENT(p11_kit_uri_new)
ABSENT(p11_kit_uri_parse)
ABSENT(p11_kit_uri_set_attribute)
/* clang-format on */
