"""What an operator or an application may ask or do: functions over the database, without printing and without HTTP."""
